export {
  BlobDamagedError,
  BlobMissingError,
  type Blobs,
  BlobsUnavailableError,
  folderOf,
  isSha256,
  type StoredBlob,
  sha256Of,
} from "./blobs.ts"
export { FolderBlobs } from "./folder.ts"
export { MemoryBlobs } from "./memory.ts"
export { fieldBytesMaxDefault, type WithBlobsOptions, withBlobs } from "./with-blobs.ts"
