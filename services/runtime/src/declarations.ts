import type { ToolDeclared } from "@reins/events"

/** What workers have declared: the newest record per backend and tool. */
export class Declarations {
  readonly #byKey = new Map<string, ToolDeclared>()
  readonly #newBackend: (backend: string) => void
  caughtUp = false

  constructor(newBackend: (backend: string) => void) {
    this.#newBackend = newBackend
  }

  add(declared: ToolDeclared): void {
    this.#byKey.set(`${declared.backend}/${declared.tool}`, declared)
    this.#newBackend(declared.backend)
  }

  remove(key: string): void {
    this.#byKey.delete(key)
  }

  /** The tool, or the backend's wildcard for tools that the agent describes itself. */
  get(backend: string, tool: string): ToolDeclared | undefined {
    return this.#byKey.get(`${backend}/${tool}`) ?? this.#byKey.get(`${backend}/*`)
  }

  all(): readonly ToolDeclared[] {
    return [...this.#byKey.values()]
  }
}
