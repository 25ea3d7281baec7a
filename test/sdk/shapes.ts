// What the SDK's own types say about a response, as validators. TypeScript 7 has no compiler API, so the declarations are read by a parser
// and compiled here, from the very files that a developer's editor reads; nothing about the API is written down a second time.
//
// S1  What cannot be compiled throws: a type that this file does not understand is never taken for one that anything fits.
// S2  A key is missing where its value is undefined: JSON has no undefined. A nullable key that is required must be there, as null.
// S3  A key that no type knows is not a problem of the shape but is reported beside it, so that a test can forbid it.

import { readFileSync, realpathSync } from "node:fs"
import { dirname, join, relative, resolve, sep } from "node:path"
import { fileURLToPath } from "node:url"
import { parseSync } from "oxc-parser"

export type Shape =
  | { readonly kind: "anything" }
  | { readonly kind: "primitive"; readonly type: "string" | "number" | "boolean" | "null" }
  | { readonly kind: "literal"; readonly value: string | number | boolean }
  | { readonly kind: "array"; readonly item: Shape }
  | { readonly kind: "record"; readonly value: Shape }
  | ObjectShape
  | { readonly kind: "union"; readonly members: readonly Shape[] }
  /** A type that names itself somewhere inside: compiled when it is asked for. */
  | { readonly kind: "later"; readonly name: string; readonly get: () => Shape }

export interface ObjectShape {
  readonly kind: "object"
  readonly name: string
  readonly keys: ReadonlyMap<string, { readonly required: boolean; readonly shape: Shape }>
  /** What keys beyond those named may hold, where the type has an index signature. */
  readonly others: Shape | null
}

export interface Findings {
  /** Each with the JSON pointer of the place. */
  readonly problems: readonly Problem[]
  /** JSON pointers of keys that no type knows. */
  readonly unknownKeys: readonly string[]
}

export interface Problem {
  readonly pointer: string
  readonly what: string
}

export class ShapeError extends Error {
  override readonly name = "ShapeError"
  readonly problems: readonly Problem[]

  constructor(type: string, problems: readonly Problem[], value: unknown) {
    const lines = problems.slice(0, 10).map(({ pointer, what }) => `  ${pointer === "" ? "(the whole)" : pointer}: ${what}`)
    if (problems.length > lines.length) lines.push(`  and ${problems.length - lines.length} more`)
    super(`This is no ${type}:\n${lines.join("\n")}\n${(JSON.stringify(value) ?? "undefined").slice(0, 2000)}`)
    this.problems = problems
  }
}

/** Throws one ShapeError that names every place where the value is not what the SDK's type says. */
export function expectShape(type: string, value: unknown): void {
  const { problems } = check(type, value)
  if (problems.length > 0) throw new ShapeError(type, problems, value)
}

/** The same, and no key that the type does not know. */
export function expectExactShape(type: string, value: unknown): void {
  const { problems, unknownKeys } = check(type, value)
  const all = [...problems, ...unknownKeys.map((pointer) => ({ pointer, what: "no type knows this key" }))]
  if (all.length > 0) throw new ShapeError(type, all, value)
}

/** Compares a value with a type of the SDK: any expression over its exported names, as `PageCursorResponse<BetaManagedAgentsAgent>`. */
export function check(type: string, value: unknown): Findings {
  const findings = { problems: [] as Problem[], unknownKeys: [] as string[] }
  compare(shapeOf(type), value, "", findings)
  return findings
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Comparing

interface Open {
  readonly problems: Problem[]
  readonly unknownKeys: string[]
}

function compare(shape: Shape, value: unknown, pointer: string, findings: Open): void {
  const wrong = (what: string): void => void findings.problems.push({ pointer, what })
  switch (shape.kind) {
    case "later":
      compare(shape.get(), value, pointer, findings)
      return
    case "anything":
      if (value === undefined) wrong("is missing")
      return
    case "primitive":
      if (!isPrimitive(shape.type, value)) wrong(`is ${named(value)}, not ${shape.type}`)
      return
    case "literal":
      if (value !== shape.value) wrong(`is ${named(value)}, not ${JSON.stringify(shape.value)}`)
      return
    case "array":
      if (Array.isArray(value)) for (const [i, item] of value.entries()) compare(shape.item, item, `${pointer}/${i}`, findings)
      else wrong(`is ${named(value)}, not an array`)
      return
    case "record":
      if (isObject(value)) for (const [key, item] of Object.entries(value)) compare(shape.value, item, below(pointer, key), findings)
      else wrong(`is ${named(value)}, not an object`)
      return
    case "object":
      compareObject(shape, value, pointer, findings)
      return
    case "union":
      compareUnion(shape.members, value, pointer, findings)
      return
    default:
      throw new Error(`There is no shape ${String(shape satisfies never)}.`)
  }
}

function compareObject(shape: ObjectShape, value: unknown, pointer: string, findings: Open): void {
  if (!isObject(value)) {
    findings.problems.push({ pointer, what: `is ${named(value)}, not an object (${shape.name})` })
    return
  }
  for (const [key, { required, shape: inner }] of shape.keys) {
    const item = Object.hasOwn(value, key) ? value[key] : undefined
    if (item !== undefined) compare(inner, item, below(pointer, key), findings)
    else if (required) findings.problems.push({ pointer: below(pointer, key), what: `is missing; ${shape.name} requires it` })
  }
  for (const [key, item] of Object.entries(value)) {
    if (shape.keys.has(key) || item === undefined) continue
    if (shape.others === null) findings.unknownKeys.push(below(pointer, key))
    else compare(shape.others, item, below(pointer, key), findings)
  }
}

/** A union is judged by the member that the value says it is, so that the error names the key and not just "none of eight fits". */
function compareUnion(members: readonly Shape[], value: unknown, pointer: string, findings: Open): void {
  const flat = members.flatMap(flattened)
  const objects = flat.filter((member) => member.kind === "object")
  const discriminator = isObject(value) && objects.length === flat.filter(takesObjects).length ? discriminatorOf(objects) : null
  if (discriminator !== null && isObject(value)) {
    const chosen = objects.find((member) => literalOf(member, discriminator) === value[discriminator])
    if (chosen !== undefined) return compareObject(chosen, value, pointer, findings)
    const known = objects.map((member) => JSON.stringify(literalOf(member, discriminator)))
    findings.problems.push({
      pointer: below(pointer, discriminator),
      what: `is ${named(value[discriminator])}, not one of ${known.join(", ")}`,
    })
    return
  }
  let nearest: Open | null = null
  for (const member of flat) {
    const own: Open = { problems: [], unknownKeys: [] }
    compare(member, value, pointer, own)
    // The first that fits without unknown keys; failing that, the one with the fewest complaints.
    if (own.problems.length === 0 && own.unknownKeys.length === 0) return
    if (nearest === null || rank(own) < rank(nearest)) nearest = own
  }
  if (nearest === null) throw new Error("A union without members fits nothing.")
  if (nearest.problems.length > 0 && !isObject(value)) {
    findings.problems.push({ pointer, what: `is ${named(value)}, not ${flat.map(spelled).join(" | ")}` })
    return
  }
  findings.problems.push(...nearest.problems)
  findings.unknownKeys.push(...nearest.unknownKeys)
}

function rank({ problems, unknownKeys }: Open): number {
  return problems.length * 1000 + unknownKeys.length
}

function flattened(shape: Shape): readonly Shape[] {
  if (shape.kind === "later") return flattened(shape.get())
  return shape.kind === "union" ? shape.members.flatMap(flattened) : [shape]
}

function takesObjects(shape: Shape): boolean {
  return shape.kind === "object" || shape.kind === "record" || shape.kind === "anything"
}

/** The key that is a different literal in every member: `type` wherever there is one. */
function discriminatorOf(members: readonly ObjectShape[]): string | null {
  const [first] = members
  if (first === undefined) return null
  const candidates = ["type", ...[...first.keys.keys()].filter((key) => key !== "type")]
  return (
    candidates.find((key) => {
      const literals = members.map((member) => literalOf(member, key))
      return !literals.includes(undefined) && new Set(literals).size === members.length
    }) ?? null
  )
}

function literalOf(shape: ObjectShape, key: string): string | number | boolean | undefined {
  const inner = shape.keys.get(key)?.shape
  return inner?.kind === "literal" ? inner.value : undefined
}

function isPrimitive(type: string, value: unknown): boolean {
  if (type === "null") return value === null
  // oxlint-disable-next-line valid-typeof -- The type is one of those that typeof says.
  return typeof value === type && (typeof value !== "number" || Number.isFinite(value))
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
}

function below(pointer: string, key: string): string {
  return `${pointer}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`
}

function named(value: unknown): string {
  if (value === undefined) return "missing"
  if (Array.isArray(value)) return "an array"
  return isObject(value) ? "an object" : JSON.stringify(value)
}

function spelled(shape: Shape): string {
  switch (shape.kind) {
    case "primitive":
      return shape.type
    case "literal":
      return JSON.stringify(shape.value)
    case "object":
    case "later":
      return shape.name
    case "anything":
    case "array":
    case "record":
    case "union":
      return shape.kind
    default:
      throw new Error(`There is no shape ${String(shape satisfies never)}.`)
  }
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Reading the declarations

/** A node of the syntax tree, of which each use checks what it needs. */
interface Node {
  readonly type: string
  readonly [key: string]: unknown
}

interface Declaration {
  readonly node: Node
  readonly file: SourceFile
}

interface SourceFile {
  readonly path: string
  readonly declared: ReadonlyMap<string, Node>
  /** Local name → where it comes from; the original name is null for a whole namespace. */
  readonly imported: ReadonlyMap<string, { readonly from: string; readonly original: string | null }>
  readonly reexported: readonly { readonly from: string; readonly name: string | null; readonly as: string | null }[]
}

/** Type parameters by their names. */
type Bindings = ReadonlyMap<string, Shape>

const sdkRoot = dirname(realpathSync(fileURLToPath(import.meta.resolve("@anthropic-ai/sdk"))))
const sdkEntries = ["resources/beta/index.d.ts", "resources/shared.d.ts", "core/pagination.d.ts"]
const none: Bindings = new Map()

const files = new Map<string, SourceFile>()
const compiled = new Map<string, Shape>()

/** The shape of a type expression over exported names of the SDK. */
export function shapeOf(type: string): Shape {
  const known = compiled.get(type)
  if (known !== undefined) return known
  const { program, errors } = parseSync("expression.d.ts", `export type Asked = ${type}`)
  const node = (program.body[0] as unknown as { declaration?: { typeAnnotation?: Node } } | undefined)?.declaration?.typeAnnotation
  if (errors.length > 0 || node === undefined) throw new Error(`${type} is no type.`)
  const shape = compile(node, { path: "(asked)", declared: new Map(), imported: new Map(), reexported: [] }, none)
  compiled.set(type, shape)
  return shape
}

/** Where an exported name of the SDK is declared: path within the package. For tests that read the text in another way. */
export function declaredIn(name: string): string {
  return relative(sdkRoot, exported(name).file.path).split(sep).join("/")
}

export function sourceOf(path: string): string {
  return readFileSync(join(sdkRoot, path), "utf8")
}

function exported(name: string): Declaration {
  for (const entry of [...sdkEntries, ...betaFolders()]) {
    const found = lookUp(name, join(sdkRoot, entry), new Set())
    if (found !== null) return found
  }
  throw new Error(`The SDK exports no type ${name}.`)
}

/** The indexes name most types but not all; the files of the resources name the rest. */
function betaFolders(): readonly string[] {
  return [
    "agents/agents",
    "environments/environments",
    "sessions/sessions",
    "sessions/events",
    "sessions/resources",
    "sessions/threads/threads",
  ]
    .map((name) => `resources/beta/${name}.d.ts`)
    .concat("resources/beta/beta.d.ts")
}

function sourceFile(path: string): SourceFile {
  const known = files.get(path)
  if (known !== undefined) return known
  const { program, errors } = parseSync(path, readFileSync(path, "utf8"))
  if (errors.length > 0) throw new Error(`${path} cannot be parsed: ${errors[0]?.message}`)
  const declared = new Map<string, Node>()
  const imported = new Map<string, { from: string; original: string | null }>()
  const reexported: { from: string; name: string | null; as: string | null }[] = []
  const keep = (node: Node | null): void => {
    if (node === null) return
    if (!["TSInterfaceDeclaration", "TSTypeAliasDeclaration", "ClassDeclaration"].includes(node.type)) return
    const name = nameOf(node["id"])
    // Two declarations of a name would have to be merged; none of these files does that.
    if (declared.has(name)) throw new Error(`${path} declares ${name} twice.`)
    declared.set(name, node)
  }
  for (const statement of program.body as unknown as readonly Node[]) {
    if (statement.type === "ImportDeclaration") {
      const from = String((statement["source"] as { value: unknown }).value)
      for (const specifier of statement["specifiers"] as readonly Node[]) {
        const original = specifier.type === "ImportSpecifier" ? nameOf(specifier["imported"]) : null
        imported.set(nameOf(specifier["local"]), { from, original })
      }
    } else if (statement.type === "ExportNamedDeclaration") {
      keep(statement["declaration"] as Node | null)
      const source = statement["source"] as { value: unknown } | null
      if (source !== null)
        for (const specifier of statement["specifiers"] as readonly Node[])
          reexported.push({ from: String(source.value), name: nameOf(specifier["local"]), as: nameOf(specifier["exported"]) })
    } else if (statement.type === "ExportAllDeclaration") {
      if (statement["exported"] === null)
        reexported.push({ from: String((statement["source"] as { value: unknown }).value), name: null, as: null })
    } else keep(statement)
  }
  const file: SourceFile = { path, declared, imported, reexported }
  files.set(path, file)
  return file
}

function nameOf(node: unknown): string {
  const { name, value } = node as { name?: unknown; value?: unknown }
  if (typeof name === "string") return name
  if (typeof value === "string") return value
  throw new Error(`A name was expected, not ${JSON.stringify(node)}.`)
}

/** `./events.js`, as a declaration imports it, is `events.d.ts` beside it. */
function resolved(from: string, file: SourceFile): string {
  return resolve(dirname(file.path), from.replace(/\.m?js$/, ".d.ts"))
}

function lookUp(name: string, path: string, visited: Set<string>): Declaration | null {
  if (visited.has(path)) return null
  visited.add(path)
  const file = sourceFile(path)
  const node = file.declared.get(name)
  if (node !== undefined) return { node, file }
  for (const { from, name: original, as } of file.reexported) {
    if (!from.startsWith(".") || (as !== null && as !== name)) continue
    const found = lookUp(original ?? name, resolved(from, file), visited)
    if (found !== null) return found
  }
  return null
}

/** Follows a name as the compiler does: what the file declares, what it imports; the question of a test is a file without either. */
function declarationOf(typeName: Node, file: SourceFile): Declaration {
  if (typeName.type === "TSQualifiedName") {
    const space = nameOf(typeName["left"])
    const name = nameOf(typeName["right"])
    const from = file.imported.get(space)?.from
    const found = from === undefined ? null : lookUp(name, resolved(from, file), new Set())
    if (found === null) throw new Error(`${file.path}: there is no ${space}.${name}.`)
    return found
  }
  const name = nameOf(typeName)
  const node = file.declared.get(name)
  if (node !== undefined) return { node, file }
  const origin = file.imported.get(name)
  if (origin !== undefined) {
    const found = lookUp(origin.original ?? name, resolved(origin.from, file), new Set())
    if (found !== null) return found
  }
  if (file.path === "(asked)") return exported(name)
  throw new Error(`${file.path}: ${name} is declared nowhere.`)
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Compiling

function compile(node: Node, file: SourceFile, bindings: Bindings): Shape {
  switch (node.type) {
    case "TSUnknownKeyword":
    case "TSAnyKeyword":
      return { kind: "anything" }
    case "TSStringKeyword":
      return { kind: "primitive", type: "string" }
    case "TSNumberKeyword":
      return { kind: "primitive", type: "number" }
    case "TSBooleanKeyword":
      return { kind: "primitive", type: "boolean" }
    case "TSNullKeyword":
      return { kind: "primitive", type: "null" }
    case "TSLiteralType":
      return { kind: "literal", value: literalValue(node["literal"] as Node) }
    case "TSParenthesizedType":
      return compile(node["typeAnnotation"] as Node, file, bindings)
    case "TSArrayType":
      return { kind: "array", item: compile(node["elementType"] as Node, file, bindings) }
    case "TSUnionType":
      return { kind: "union", members: (node["types"] as readonly Node[]).map((member) => compile(member, file, bindings)) }
    case "TSIntersectionType":
      return compileIntersection(node["types"] as readonly Node[], file, bindings)
    case "TSTypeLiteral":
      return compileMembers("(literal)", node["members"] as readonly Node[], file, bindings)
    case "TSTypeReference":
      return compileReference(node["typeName"] as Node, node["typeArguments"] as Node | null, file, bindings)
    default:
      throw new Error(`${file.path}: a ${node.type} is not understood.`)
  }
}

function literalValue(node: Node): string | number | boolean {
  const value = node["value"]
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return value
  throw new Error(`The literal ${JSON.stringify(node)} is not understood.`)
}

/** `string & {}` keeps an editor suggesting the literals beside it and means any string. No other intersection occurs. */
function compileIntersection(types: readonly Node[], file: SourceFile, bindings: Bindings): Shape {
  const rest = types.filter((type) => !(type.type === "TSTypeLiteral" && (type["members"] as readonly Node[]).length === 0))
  const [only] = rest
  if (rest.length !== 1 || only === undefined) throw new Error(`${file.path}: an intersection is not understood.`)
  return compile(only, file, bindings)
}

function compileReference(typeName: Node, typeArguments: Node | null, file: SourceFile, bindings: Bindings): Shape {
  const given = (typeArguments?.["params"] as readonly Node[] | undefined) ?? []
  const name = typeName.type === "Identifier" ? nameOf(typeName) : null
  const bound = name === null ? undefined : bindings.get(name)
  if (bound !== undefined) return bound
  const args = given.map((node) => compile(node, file, bindings))
  const [first, second] = args
  if (name === "Array" || name === "ReadonlyArray") {
    if (first === undefined) throw new Error(`${file.path}: an Array of what?`)
    return { kind: "array", item: first }
  }
  if (name === "Record") {
    if (second === undefined) throw new Error(`${file.path}: a Record of what?`)
    return { kind: "record", value: second }
  }
  const declaration = declarationOf(typeName, file)
  const declaredName = nameOf(declaration.node["id"])
  if (args.length > 0) return compileDeclaration(declaration, args)
  const key = `${declaration.file.path}#${declaredName}`
  return { kind: "later", name: declaredName, get: () => remembered(key, () => compileDeclaration(declaration, [])) }
}

function remembered(key: string, make: () => Shape): Shape {
  const known = compiled.get(key)
  if (known !== undefined) return known
  const shape = make()
  compiled.set(key, shape)
  return shape
}

function compileDeclaration({ node, file }: Declaration, args: readonly Shape[]): Shape {
  const name = nameOf(node["id"])
  const parameters = ((node["typeParameters"] as Node | null)?.["params"] as readonly Node[] | undefined) ?? []
  const bindings = new Map(
    parameters.map((parameter, i): [string, Shape] => {
      const fallback = parameter["default"] as Node | null
      const shape = args[i] ?? (fallback === null ? undefined : compile(fallback, file, none))
      if (shape === undefined) throw new Error(`${name} needs ${parameters.length} type arguments.`)
      return [nameOf(parameter["name"]), shape]
    }),
  )
  switch (node.type) {
    case "TSTypeAliasDeclaration":
      return compile(node["typeAnnotation"] as Node, file, bindings)
    case "TSInterfaceDeclaration": {
      const own = compileMembers(name, (node["body"] as { body: readonly Node[] }).body, file, bindings)
      const inherited = (node["extends"] as readonly Node[]).map((heritage) =>
        resolvedObject(
          compileReference(heritage["expression"] as Node, heritage["typeArguments"] as Node | null, file, bindings),
          `${name} extends`,
        ),
      )
      const keys = new Map([...inherited.flatMap((base) => [...base.keys]), ...own.keys])
      return { kind: "object", name, keys, others: own.others ?? inherited.find((base) => base.others !== null)?.others ?? null }
    }
    case "ClassDeclaration": {
      // A page is a class with methods; what comes over the wire is the interface that it implements.
      const [wire] = node["implements"] as readonly Node[]
      if (wire === undefined) throw new Error(`${file.path}: the class ${name} says nothing of what comes over the wire.`)
      return compileReference(wire["expression"] as Node, wire["typeArguments"] as Node | null, file, bindings)
    }
    default:
      throw new Error(`${file.path}: ${name} is a ${node.type}, which is not understood.`)
  }
}

function resolvedObject(shape: Shape, what: string): ObjectShape {
  if (shape.kind === "later") return resolvedObject(shape.get(), what)
  if (shape.kind !== "object") throw new Error(`${what} a ${shape.kind}, which is not understood.`)
  return shape
}

function compileMembers(name: string, members: readonly Node[], file: SourceFile, bindings: Bindings): ObjectShape {
  const keys = new Map<string, { required: boolean; shape: Shape }>()
  let others: Shape | null = null
  for (const member of members) {
    const annotation = (member["typeAnnotation"] as { typeAnnotation: Node } | null)?.typeAnnotation
    if (
      annotation === undefined ||
      (member.type !== "TSPropertySignature" && member.type !== "TSIndexSignature") ||
      member["computed"] === true
    )
      throw new Error(`${file.path}: a ${member.type} in ${name} is not understood.`)
    const shape = compile(annotation, file, bindings)
    if (member.type === "TSIndexSignature") others = shape
    else keys.set(nameOf(member["key"]), { required: member["optional"] !== true, shape })
  }
  return { kind: "object", name, keys, others }
}
