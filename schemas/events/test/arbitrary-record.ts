import type { Definition } from "@reins/events"
import fc from "fast-check"

interface ZodDef {
  readonly type: string
  readonly innerType?: unknown
  readonly element?: unknown
  readonly shape?: Readonly<Record<string, unknown>>
  readonly entries?: Readonly<Record<string, string>>
}

/** Any record that fits this definition's zod schema, `type` included. */
export function recordOf(definition: Definition): fc.Arbitrary<Record<string, unknown>> {
  return (valueOf(definition.schema, "") as fc.Arbitrary<object>).map((fields) => ({ ...fields, type: definition.type }))
}

function valueOf(schema: unknown, name: string): fc.Arbitrary<unknown> {
  const { def } = (schema as { readonly _zod: { readonly def: ZodDef } })._zod
  switch (def.type) {
    case "string":
      if (/(Hash|Digest)$/.test(name))
        return fc.string({ unit: fc.constantFrom(..."0123456789abcdef".split("")), minLength: 64, maxLength: 64 })
      return fc.string({ unit: "binary", minLength: 1, maxLength: 40 })
    case "boolean":
      return fc.boolean()
    case "number":
      if (name.endsWith("Ms")) return fc.nat({ max: 3650 * 86_400_000 })
      // avsc takes longs up to here.
      return fc.integer({ min: name.endsWith("Tokens") ? 1 : 0, max: Number.MAX_SAFE_INTEGER - 1 })
    case "enum":
      return fc.constantFrom(...Object.keys(def.entries ?? {}))
    case "optional":
      return fc.option(valueOf(def.innerType, name), { nil: undefined })
    case "nullable":
      return fc.option(valueOf(def.innerType, name))
    case "array":
      return fc.array(valueOf(def.element, name), { maxLength: 3 })
    case "object":
      return fc.record(Object.fromEntries(Object.entries(def.shape ?? {}).map(([field, inner]) => [field, valueOf(inner, field)])), {
        noNullPrototype: true,
      })
    default:
      throw new Error(`No arbitrary for zod ${def.type} at ${name}.`)
  }
}

/** The record as Avro gives it back: what may be left out and was is null there. */
export function asRead(definition: Definition, record: object): unknown {
  return { ...(whole(definition.schema, record) as object), type: definition.type }
}

function whole(schema: unknown, value: unknown): unknown {
  if (value === undefined || value === null) return null
  const { def } = (schema as { readonly _zod: { readonly def: ZodDef } })._zod
  switch (def.type) {
    case "optional":
    case "nullable":
      return whole(def.innerType, value)
    case "array":
      return (value as readonly unknown[]).map((item) => whole(def.element, item))
    case "object":
      return Object.fromEntries(
        Object.entries(def.shape ?? {}).map(([field, inner]) => [field, whole(inner, (value as Readonly<Record<string, unknown>>)[field])]),
      )
    default:
      return value
  }
}
