import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { AgentSaved, EnvironmentSaved, KeySaved } from "@reins/events"
import fc from "fast-check"
import { DirectoryFold } from "../src/index.ts"

type Fact = AgentSaved | EnvironmentSaved | KeySaved

// Few ids, names and versions, so that facts meet: what several gateways may append at once, late, twice, and for each other's records.

const tenant = fc.constantFrom("acme", "other")
const eventId = fc.nat({ max: 60 }).map((n) => `api_${n % 5}_${n}`)
const outside = { eventId, tenant, at: fc.constant(0), by: fc.constant("test") }
const agentFact: fc.Arbitrary<Fact> = fc
  .record({ ...outside, id: fc.constantFrom("a1", "a2"), version: fc.integer({ min: 0, max: 3 }), archived: arbitrarily(1, 3) })
  .map((fields) => ({ type: "agent.saved", agent: JSON.stringify({ from: fields.eventId }), ...fields }))
const environmentFact: fc.Arbitrary<Fact> = fc
  .record({
    ...outside,
    id: fc.constantFrom("e1", "e2", "e3"),
    revision: fc.integer({ min: 0, max: 4 }),
    environment: fc.oneof(
      { weight: 5, arbitrary: fc.constantFrom("prod", "dev").map((name) => JSON.stringify({ name })) },
      { weight: 1, arbitrary: fc.constant(null) },
    ),
    archived: arbitrarily(1, 6),
  })
  .map((fields) => ({ type: "environment.saved", ...fields }))
const keyFact: fc.Arbitrary<Fact> = fc
  .record({
    ...outside,
    id: fc.constantFrom("k1", "k2"),
    name: fc.constant("ci"),
    hash: fc.constantFrom("h1", "h2"),
    revoked: fc.boolean(),
  })
  .map((fields) => ({ type: "key.saved", ...fields }))
const facts = fc.array(fc.oneof(agentFact, environmentFact, keyFact), { minLength: 5, maxLength: 60, size: "medium" })

function arbitrarily(times: number, of: number): fc.Arbitrary<boolean> {
  return fc.integer({ min: 1, max: of }).map((n) => n <= times)
}

function folded(log: readonly Fact[], fold = new DirectoryFold(), from = 0): DirectoryFold {
  for (const [index, fact] of log.entries()) fold.apply(fact, from + index)
  return fold
}

/** Everything that the fold can be asked. */
function seen(fold: DirectoryFold): unknown {
  const { agents, environments, keys } = fold
  return {
    agents,
    environments,
    keys,
    verdicts: Array.from({ length: 61 }, (_, n) => fold.verdictOf(`api_${n % 5}_${n}`)),
    newest: Array.from({ length: 5 }, (_, n) => fold.savedUnder(`api_${n}_`, 0)),
    found: ["h1", "h2"].map((hash) => fold.keyOf(hash)),
  }
}

describe("the directory", () => {
  it("is the same folded in two halves and folded whole", () => {
    fc.assert(
      fc.property(facts, fc.nat(), (log, cut) => {
        const at = log.length === 0 ? 0 : cut % log.length
        assert.deepEqual(seen(folded(log.slice(at), folded(log.slice(0, at)), at)), seen(folded(log)))
      }),
    )
  })

  it("takes no notice of a record that is repeated anywhere later (N2)", () => {
    fc.assert(
      fc.property(facts, fc.nat(), fc.nat(), (log, which, where) => {
        const fact = log[which % Math.max(1, log.length)]
        if (fact === undefined) return
        const first = log.indexOf(fact)
        const later = first + 1 + (where % (log.length - first))
        const fold = new DirectoryFold()
        const times = [...log.entries()]
        for (const [index, one] of times.slice(0, later)) fold.apply(one, index)
        assert.equal(fold.apply(fact, later), "duplicate")
        for (const [index, one] of times.slice(later)) fold.apply(one, index)
        assert.deepEqual(seen(fold), seen(folded(log)))
      }),
    )
  })

  it("changes by what it accepts and by nothing else", () => {
    fc.assert(
      fc.property(facts, (log) => {
        const accepted = log.filter(
          (
            (fold) => (fact, index) =>
              fold.apply(fact, index) === "accepted"
          )(new DirectoryFold()),
        )
        const { agents, environments, keys } = folded(log)
        // Times are of the log: fold the accepted ones at the places where they stood.
        const again = new DirectoryFold()
        for (const fact of accepted) assert.equal(again.apply(fact, log.indexOf(fact)), "accepted")
        assert.deepEqual([again.agents, again.environments, again.keys], [agents, environments, keys])
      }),
    )
  })

  it("counts versions without a gap, each as its save gave it (N1), and never changes hands (N5)", () => {
    fc.assert(
      fc.property(facts, (log) => {
        const fold = new DirectoryFold()
        const owners = new Map<string, string>()
        for (const [index, fact] of log.entries()) {
          const verdict = fold.apply(fact, index)
          if (verdict === "accepted") {
            assert.equal(owners.get(fact.id) ?? fact.tenant, fact.tenant)
            owners.set(fact.id, fact.tenant)
          }
          for (const { versions } of fold.agents.values())
            assert.deepEqual(
              versions.map(({ version }) => version),
              versions.map((_, at) => at + 1),
            )
          if (verdict === "accepted" && fact.type === "agent.saved" && !fact.archived)
            assert.deepEqual(fold.agents.get(fact.id)?.versions.at(-1), { version: fact.version, agent: fact.agent, savedAt: index })
        }
      }),
    )
  })

  it("never has two environments of a name in use within a tenant (N3), nor brings back what is archived, deleted or revoked (N4)", () => {
    fc.assert(
      fc.property(facts, (log) => {
        const fold = new DirectoryFold()
        const over = new Set<string>()
        for (const [index, fact] of log.entries()) {
          const verdict = fold.apply(fact, index)
          const deletes = fact.type === "environment.saved" && fact.environment === null
          if (over.has(fact.id) && !deletes) assert.notEqual(verdict, "accepted", JSON.stringify(fact))
          const ends = fact.type === "key.saved" ? fact.revoked : fact.archived || deletes
          if (verdict === "accepted" && ends) over.add(fact.id)
          const names = [...fold.environments.values()]
            .filter(({ archivedAt }) => archivedAt === null)
            .map((entry) => `${entry.tenant}/${entry.environment}`)
          assert.equal(new Set(names).size, names.length)
        }
      }),
      { numRuns: 1000 },
    )
  })

  it("knows of a request the save that was accepted, whichever attempt it was", () => {
    const agent = (id: string, version: number, event: string): AgentSaved => ({
      type: "agent.saved",
      eventId: event,
      tenant: "acme",
      at: 0,
      by: "test",
      id,
      version,
      agent: "{}",
      archived: false,
    })
    const fold = folded([agent("a", 1, "api_x_1"), agent("a", 2, "api_y_1"), agent("a", 2, "api_z_1"), agent("a", 3, "api_z_1.1")])
    assert.equal(fold.acceptedOf("api_z_1")?.version, 3)
    assert.equal(fold.verdictOf("api_z_1"), "superseded")
    assert.equal(fold.acceptedOf("api_nothing_1"), null)
    assert.equal(fold.savedUnder("api_z_", 0), "api_z_1.1")
    assert.equal(fold.savedUnder("api_z_", 4), null)
    assert.equal(fold.savedUnder("api_", 0), null)
  })

  it("finds a key by its hash, and a hash is one key's alone", () => {
    const key = (id: string, tenant: string, hash: string, revoked: boolean): KeySaved => ({
      type: "key.saved",
      eventId: `evt_${id}_${tenant}_${String(revoked)}`,
      tenant,
      at: 0,
      by: "test",
      id,
      name: "ci",
      hash,
      revoked,
    })
    const fold = folded([key("k1", "acme", "h1", false), key("k2", "other", "h1", false), key("k3", "acme", "h3", false)])
    assert.equal(fold.keyOf("h1")?.tenant, "acme")
    assert.equal(fold.keys.has("k2"), false)
    fold.apply(key("k1", "other", "h1", true), 3)
    assert.equal(fold.keyOf("h1")?.id, "k1", "another tenant cannot revoke it")
    fold.apply(key("k1", "acme", "h1", true), 4)
    assert.equal(fold.keyOf("h1"), null)
    assert.equal(fold.keyOf("h3")?.id, "k3")
  })
})

describe("the names of environments", () => {
  it("are another's once an environment is archived, and stay so when that one is deleted", () => {
    const fold = new DirectoryFold()
    let saves = 0
    const save = (id: string, revision: number, name: string | null, archived = false): string => {
      const environment = name === null ? null : JSON.stringify({ name })
      const saved = { tenant: "acme", at: 0, by: "test", eventId: `evt_${saves++}`, id, revision, environment, archived }
      return fold.apply({ type: "environment.saved", ...saved }, saves)
    }
    assert.deepEqual(
      [save("e1", 1, "prod"), save("e2", 1, "prod"), save("e1", 2, "prod", true), save("e2", 1, "prod")],
      ["accepted", "superseded", "accepted", "accepted"],
    )
    assert.deepEqual([save("e1", 3, null), save("e3", 1, "prod")], ["accepted", "superseded"])
    assert.equal(fold.environmentNamed("acme", "prod", "e3")?.id, "e2")
    assert.deepEqual([save("e2", 2, "dev"), save("e3", 1, "prod"), save("e4", 1, "dev")], ["accepted", "accepted", "superseded"])
    assert.deepEqual([save("e3", 2, null), save("e4", 1, "prod")], ["accepted", "accepted"])
    assert.equal(fold.environmentNamed("other", "prod", ""), undefined)
  })

  it("are looked up, never searched for: what a save costs does not grow with what stands", () => {
    const fold = new DirectoryFold()
    const { parse } = JSON
    let parsed = 0
    JSON.parse = (...given: Parameters<typeof parse>): unknown => {
      parsed++
      return parse(...given)
    }
    const environments = 200
    try {
      for (let n = 0; n < environments; n++) {
        const environment = JSON.stringify({ name: `env ${n}` })
        const saved = { tenant: "acme", at: 0, by: "test", eventId: `evt_${n}`, id: `e${n}`, revision: 1, environment, archived: false }
        fold.apply({ type: "environment.saved", ...saved }, n)
      }
    } finally {
      JSON.parse = parse
    }
    assert.equal(fold.environments.size, environments)
    assert.ok(parsed <= 4 * environments, `${parsed} parsed`)
  })
})
