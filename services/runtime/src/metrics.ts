import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client"

/** Counts by two labels at the cost of two look-ups, for what happens many thousand times a second; read when somebody scrapes. */
export class Tally {
  readonly #counts = new Map<string, Map<string, number>>()

  inc(first: string, second: string): void {
    let counts = this.#counts.get(first)
    if (counts === undefined) {
      counts = new Map()
      this.#counts.set(first, counts)
    }
    counts.set(second, (counts.get(second) ?? 0) + 1)
  }

  *counts(): Iterable<readonly [first: string, second: string, count: number]> {
    for (const [first, counts] of this.#counts) for (const [second, count] of counts) yield [first, second, count]
  }
}

/** The metrics of one process. Names and labels are public: dashboards and alerts stand on them. */
export class Metrics {
  readonly registry: Registry = new Registry()
  readonly appended: Tally = this.#tally("reins_events_appended_total", "Records appended and acknowledged.", "topic", "event_type")
  readonly folded: Tally = this.#tally("reins_events_folded_total", "Records folded, by what the fold made of them.", "topic", "verdict")
  readonly duplicates: Counter<"service" | "reason"> = new Counter({
    name: "reins_duplicates_dropped_total",
    help: "Records that repeat an accepted one.",
    labelNames: ["service", "reason"],
    registers: [this.registry],
  })
  readonly superseded: Counter<"service" | "reason"> = new Counter({
    name: "reins_superseded_total",
    help: "Records that came after something else took their place.",
    labelNames: ["service", "reason"],
    registers: [this.registry],
  })
  readonly deadLetters: Counter<"service" | "reason"> = new Counter({
    name: "reins_dead_letters_total",
    help: "Records that nobody could read.",
    labelNames: ["service", "reason"],
    registers: [this.registry],
  })
  readonly inFlight: Gauge<"service"> = new Gauge({
    name: "reins_inflight",
    help: "Effects that run now.",
    labelNames: ["service"],
    registers: [this.registry],
  })
  readonly rebalances: Counter<"group"> = new Counter({
    name: "reins_rebalances_total",
    help: "Partitions gained or lost.",
    labelNames: ["group"],
    registers: [this.registry],
  })
  readonly replaySeconds: Histogram<"service"> = new Histogram({
    name: "reins_replay_seconds",
    help: "Time from the assignment of a partition to its first decision.",
    labelNames: ["service"],
    buckets: [0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60],
    registers: [this.registry],
  })
  readonly sseClients: Gauge = new Gauge({
    name: "reins_sse_clients",
    help: "Open streams of events.",
    registers: [this.registry],
  })
  readonly sseEvicted: Counter = new Counter({
    name: "reins_sse_evicted_total",
    help: "Streams that were ended because their client read too slowly.",
    registers: [this.registry],
  })
  readonly httpSeconds: Histogram<"route" | "method" | "code"> = new Histogram({
    name: "reins_http_request_duration_seconds",
    help: "Time from a request to the head of its response.",
    labelNames: ["route", "method", "code"],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 2.5, 10],
    registers: [this.registry],
  })
  readonly performSeconds: Histogram<"service"> = new Histogram({
    name: "reins_event_handle_seconds",
    help: "Time from the beginning of an effect to its result.",
    labelNames: ["service"],
    buckets: [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300],
    registers: [this.registry],
  })
  readonly tokens: Histogram<"gen_ai_operation_name" | "gen_ai_provider_name" | "gen_ai_request_model" | "gen_ai_token_type"> =
    new Histogram({
      name: "gen_ai_client_token_usage",
      help: "Tokens of a model call.",
      labelNames: ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_type"],
      buckets: [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864],
      registers: [this.registry],
    })
  readonly modelSeconds: Histogram<"gen_ai_operation_name" | "gen_ai_provider_name" | "gen_ai_request_model" | "error_type"> =
    new Histogram({
      name: "gen_ai_client_operation_duration_seconds",
      help: "Time of a model call.",
      labelNames: ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "error_type"],
      buckets: [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36],
      registers: [this.registry],
    })
  readonly sessions: Gauge<"status"> = new Gauge({
    name: "reins_sessions",
    help: "Sessions known to this process.",
    labelNames: ["status"],
    registers: [this.registry],
  })

  constructor(version: string) {
    new Gauge({ name: "reins_build_info", help: "Always 1.", labelNames: ["version", "node"], registers: [this.registry] }).set(
      { version, node: process.versions.node },
      1,
    )
  }

  /** Process metrics (memory, event loop); once per process, as they patch nothing but cost a timer. */
  withDefaults(): this {
    collectDefaultMetrics({ register: this.registry })
    return this
  }

  #tally(name: string, help: string, first: string, second: string): Tally {
    const tally = new Tally()
    const counter = new Counter({
      name,
      help,
      labelNames: [first, second],
      registers: [],
      collect() {
        this.reset()
        for (const [one, other, count] of tally.counts()) this.inc({ [first]: one, [second]: other }, count)
      },
    })
    this.registry.registerMetric(counter)
    return tally
  }
}
