import { createHash } from "node:crypto"
import type { Agent } from "@reins/events"

/** Different agents that are remembered for whoever comes next; sessions keep their own beyond that. */
const rememberedMax = 256

interface Use {
  sessions: number
  readonly bytes: number
}

/**
 * The agents of the sessions in memory. Many sessions have the same one, each from a record of its own, and it may be by far the largest part
 * of their state: it is kept once, and counted once.
 */
export class SharedAgents {
  readonly #remembered = new Map<string, Agent>()
  readonly #uses = new Map<Agent, Use>()
  #bytes = 0

  /** About how much memory they take. */
  get bytes(): number {
    return this.#bytes
  }

  /** An equal agent that others have already; else this one. */
  shared(agent: Agent): Agent {
    const digest = createHash("sha256").update(JSON.stringify(agent)).digest("base64")
    const known = this.#remembered.get(digest)
    if (known !== undefined) return known
    this.#remembered.set(digest, agent)
    if (this.#remembered.size > rememberedMax) {
      for (const oldest of this.#remembered.keys()) {
        this.#remembered.delete(oldest)
        break
      }
    }
    return agent
  }

  /** One more session in memory has it. */
  use(agent: Agent): void {
    const use = this.#uses.get(agent)
    if (use !== undefined) {
      use.sessions++
      return
    }
    const bytes = JSON.stringify(agent).length
    this.#uses.set(agent, { sessions: 1, bytes })
    this.#bytes += bytes
  }

  /** One fewer. */
  release(agent: Agent): void {
    const use = this.#uses.get(agent)
    if (use === undefined || --use.sessions > 0) return
    this.#uses.delete(agent)
    this.#bytes -= use.bytes
  }
}
