export { assign, type Member } from "./assignment.ts"
export { type Aside, asideOf, type BlobFault, blobsHeader, type Named, readNamed } from "./blobs/aside.ts"
export { type Blobs, BlobsUnavailableError, folderOf, type StoredBlob } from "./blobs/blobs.ts"
export { type CommitClock, commitClock, GroupCommit, type PartitionBatch, type WriteOutcome } from "./group-commit.ts"
export {
  type Append,
  AppendRejectedError,
  AppendUnknownError,
  AppendWithdrawnError,
  type Bounds,
  type Certainty,
  type Commit,
  erasesHeader,
  type Following,
  type FollowOptions,
  type Log,
  LogOwnedError,
  type LogRecord,
  LogUnavailableError,
  type Placed,
  type ReplayOptions,
  type TopicDescription,
  TopicMismatchError,
  type TopicSettings,
} from "./log.ts"
export { announceOwnerApi, type OwnerApi, readOwnerApi } from "./owner-api.ts"
export { murmur2, partitionOf } from "./partition.ts"
export { SchemaIncompatibleError, type SchemaRegistry } from "./registry/registry.ts"
export { verifyTopic } from "./topic-settings.ts"
