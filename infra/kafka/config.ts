import { homedir } from "node:os"
import { delimiter, join } from "node:path"

export type LocalKafkaConfig = {
  /** Where downloaded artifacts are kept between runs. */
  readonly cacheFolder: string
  readonly pathFolders: readonly string[]
  readonly javaHomes: readonly string[]
  /** Set by a runner that started one broker for all test files. */
  readonly testKafka: string | undefined
  readonly testRegistry: string | undefined
  /** A missing Kafka fails the tests and skips none of them. */
  readonly requireKafka: boolean
}

export function readConfig(env: NodeJS.ProcessEnv = process.env): LocalKafkaConfig {
  const cacheBase = given(env["XDG_CACHE_HOME"]) ?? join(homedir(), ".cache")
  const require = given(env["REINS_REQUIRE_KAFKA"])
  return {
    cacheFolder: join(cacheBase, "reins"),
    pathFolders: (env["PATH"] ?? "").split(delimiter).filter((folder) => folder !== ""),
    javaHomes: [env["JAVA_HOME"], env["JDK_HOME"]].map(given).filter((home) => home !== undefined),
    testKafka: given(env["REINS_TEST_KAFKA"]),
    testRegistry: given(env["REINS_TEST_REGISTRY"]),
    requireKafka: require !== undefined && require !== "0" && require !== "false",
  }
}

/** The environment for a process of ours. NODE_OPTIONS and a test runner's marks are meant for this one alone. */
export function inheritedEnv(): NodeJS.ProcessEnv {
  const { NODE_OPTIONS: _options, NODE_TEST_CONTEXT: _context, ...env } = process.env
  return env
}

/** An empty variable is how a compose file says "not set". */
function given(value: string | undefined): string | undefined {
  return value === undefined || value === "" ? undefined : value
}
