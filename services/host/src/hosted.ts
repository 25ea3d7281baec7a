import { eraserOf } from "@reins/eraser"
import { intake } from "@reins/intake"
import { anthropicModel, llmInvoker, type Model } from "@reins/llm-invoker"
import type { AnyService, ServiceContext } from "@reins/runtime"
import { toolRouter } from "@reins/tool-router"
import { functionWorker } from "@reins/tool-worker-function"
import { httpWorker } from "@reins/tool-worker-http"

/** What a host gives to the services that it builds beside the context of the process. */
export interface Given {
  /** Answers instead of the endpoint that the environment names. */
  readonly model?: Model
}

const factories: Readonly<Record<string, (context: ServiceContext, given: Given) => AnyService>> = {
  intake: ({ codec, config, log }) => intake({ codec, partitions: config.partitions, log }),
  "llm-invoker": ({ metrics, config }, given) =>
    llmInvoker({ model: given.model ?? anthropicModel(config.anthropic), metrics, limits: { contextTokens: config.contextTokens } }),
  "tool-router": ({ log }) => toolRouter({ log }),
  eraser: (context) => eraserOf(context),
  "tool-workers/function": ({ me }) => functionWorker(me),
  "tool-workers/http": ({ me }) => httpWorker(me),
}

/** Every service that can be hosted, by its folder under `services/`. */
export const hostable: readonly string[] = Object.keys(factories)

/** Builds services by folder name. Throws a RangeError naming what there is. */
export function build(names: readonly string[], context: ServiceContext, given: Given = {}): readonly AnyService[] {
  return names.map((name) => {
    const factory = factories[name]
    if (factory === undefined) throw new RangeError(`There is no service ${name}. There are: ${hostable.join(", ")}.`)
    return factory(context, given)
  })
}
