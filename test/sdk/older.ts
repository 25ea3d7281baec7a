// The story told by SDK 0.120.0 (npm: 0.120.* has this one version), the generation before 1.0: `x-api-key`, `anthropic-version: 2023-06-01`,
// `?beta=true` on every path. It knows all of tier 1, the tool runner and the accumulator; of what a stream carries it drops the events that
// it has no name for (`session.usage` of tier 1, `workflow_run.*` of a later one), which a list still shows.
//
// It is installed beside the newest one under another name, as a dependency of @reins/test:
//
//   npm install --workspace test --save-dev --save-exact "anthropic-sdk-0.120@npm:@anthropic-ai/sdk@0.120.0"
//
// or anywhere else by the same command without `--workspace`, and then named by its folder.

import { createRequire } from "node:module"
import { join } from "node:path"
import type Anthropic from "@anthropic-ai/sdk"
import type { ClientOptions } from "@anthropic-ai/sdk"
import type { Sdk } from "./teller.ts"

export interface OlderSdk {
  readonly version: string
  readonly sdk: Sdk
  /** A client of the older SDK, typed as the newest: the methods of the story are the same. */
  client(options: ClientOptions): Anthropic
}

/** Loads it; null where it is not installed. `folder` is where its `node_modules` lies, by default the place of this file. */
export function loadOlderSdk(folder?: string): OlderSdk | null {
  const require = createRequire(folder === undefined ? import.meta.url : join(folder, "package.json"))
  let entry: string
  try {
    entry = require.resolve("anthropic-sdk-0.120")
  } catch {
    return null
  }
  // It is CommonJS and without types of its own here: with them, type-checking would need it to be installed.
  const Older = require(entry) as typeof Anthropic
  const { accumulateManagedAgentsEvent } = require("anthropic-sdk-0.120/lib/sessions/accumulate") as {
    accumulateManagedAgentsEvent: Sdk["accumulate"]
  }
  const { VERSION } = require("anthropic-sdk-0.120/version") as { VERSION: string }
  return {
    version: VERSION,
    client: (options) => new Older(options),
    sdk: {
      name: `SDK ${VERSION}`,
      errors: {
        badRequest: Older.BadRequestError,
        authentication: Older.AuthenticationError,
        notFound: Older.NotFoundError,
        conflict: Older.ConflictError,
      },
      accumulate: accumulateManagedAgentsEvent,
      droppedFromStreams: [
        "session.usage",
        "workflow_run.created",
        "workflow_run.status_running",
        "workflow_run.status_idle",
        "workflow_run.status_ended",
        "workflow_run.error",
        "workflow_run.phase_started",
        "workflow_run.phase_ended",
      ],
    },
  }
}
