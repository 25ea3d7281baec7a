import type { Store } from "../local-store.ts"
import type { SchemaRegistry } from "./registry.ts"

/**
 * The registry of embedded mode: schemas stand beside the records that need them, so the file can always be read. It keeps
 * what it is given; whether a schema may follow the earlier ones is checked where schemas change, in CI.
 */
export class LocalRegistry implements SchemaRegistry {
  readonly #store: Store

  constructor(store: Store) {
    this.#store = store
  }

  async register(subject: string, schema: string): Promise<number> {
    return this.#store.register(subject, schema)
  }

  async schema(id: number): Promise<string | null> {
    return this.#store.schema(id)
  }
}
