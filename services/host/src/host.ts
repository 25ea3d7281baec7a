import { type Access, startGateway } from "@reins/gateway"
import { type Config, newInstance, type ProcessOptions, type RunningProcess, startProcess } from "@reins/runtime"
import { type SimulatedModel, startSimulatedModel } from "@reins/simulated-model"
import { type Backend, worker } from "@reins/worker-kit"
import { answerConsole } from "./console.ts"
import { build, type Given, hostable } from "./hosted.ts"

export interface HostOptions extends Omit<ProcessOptions, "build" | "services">, Given {
  /** All that can be hosted, unless given. */
  readonly services?: readonly string[]
  /** Who may use the API; a gateway is started where this is given, on the port of the configuration. */
  readonly gateway?: Access
  /** Backends of users' tools, hosted beside them. */
  readonly workers?: readonly Backend[]
}

export interface Host extends RunningProcess {
  /** Set where no model endpoint is configured: the simulated model answers, and says so. */
  readonly simulatedModel: SimulatedModel | null
}

/** Whether the environment names a model endpoint. */
export function hasModel(config: Config): boolean {
  return Object.keys(config.anthropic).length > 0
}

/** Any set of services in one process; with the SQLite log, all of them are embedded mode. */
export async function startHost(options: HostOptions): Promise<Host> {
  const services = options.services ?? hostable
  const onlyGateway = services.length === 0 && (options.workers ?? []).length === 0
  for (const name of services)
    if (!hostable.includes(name)) throw new RangeError(`There is no service ${name}. There are: ${hostable.join(", ")}.`)
  const simulatedModel =
    services.includes("llm-invoker") && options.model === undefined && !hasModel(options.config)
      ? await startSimulatedModel({ contextTokens: options.config.contextTokens })
      : null
  const config =
    simulatedModel === null ? options.config : { ...options.config, anthropic: { apiKey: "simulated", baseURL: simulatedModel.url } }
  try {
    const workers = options.workers ?? []
    const { gateway: access } = options
    const running = await startProcess({
      ...options,
      ...(access === undefined
        ? {}
        : {
            front: ({ beside, ...process }) =>
              startGateway({
                ...process,
                access,
                beside: (request, response) => beside(request, response) || answerConsole(request, response, process.logger),
              }),
          }),
      config,
      ...(onlyGateway ? { instance: options.instance ?? newInstance("gateway") } : {}),
      services: [...services, ...workers.map((backend) => backend.service)],
      backends: [...(options.backends ?? []), ...workers.map((backend) => backend.backend)],
      build: (context) => [...build(services, context, options), ...workers.map((backend) => worker(backend, context.me))],
    })
    return {
      ...running,
      simulatedModel,
      stop: async () => {
        await running.stop()
        await simulatedModel?.stop()
      },
    }
  } catch (error) {
    await simulatedModel?.stop()
    throw error
  }
}
