import assert from "node:assert/strict"
import type { Step, Teller } from "./teller.ts"

export function environmentSteps(teller: Teller): readonly Step[] {
  const { environments, sessions } = teller.client.beta
  const shape = "BetaEnvironment"
  return [
    {
      name: "an environment is created, retrieved, updated field by field, archived and deleted",
      async run() {
        const name = teller.named("environment")
        const made = await teller.answer("environments.create", shape, () =>
          environments.create({ name, config: { type: "self_hosted" }, description: "Of the story.", metadata: { a: "1", b: "2" } }),
        )
        assert.equal(made.name, name)
        assert.equal(made.description, "Of the story.")
        assert.deepEqual(made.config, { type: "self_hosted" })
        assert.deepEqual(made.metadata, { a: "1", b: "2" })
        assert.equal(made.archived_at, null)
        const retrieve = (): Promise<typeof made> => teller.answer("environments.retrieve", shape, () => environments.retrieve(made.id))
        assert.deepEqual(await retrieve(), made)

        const changed = await teller.answer("environments.update", shape, () =>
          environments.update(made.id, { description: "Changed.", metadata: { a: null, b: "", c: "3" } }),
        )
        assert.equal(changed.description, "Changed.")
        assert.equal(changed.name, name)
        assert.deepEqual(changed.metadata, { c: "3" })
        assert.deepEqual(await retrieve(), changed)
        await teller.refused("environments.update", { status: 400, errorCode: "invalid_config_type_change" }, () =>
          environments.update(made.id, { config: { type: "cloud" } }),
        )

        const archive = (): Promise<typeof made> => teller.answer("environments.archive", shape, () => environments.archive(made.id))
        const archived = await archive()
        assert.ok(archived.archived_at !== null)
        assert.equal((await archive()).archived_at, archived.archived_at)
        await teller.refused("environments.update", { status: [400, 409] }, () => environments.update(made.id, { description: "No." }))
        const agent = await teller.agent()
        await teller.refused("sessions.create", { status: 400, errorCode: "environment_archived" }, () =>
          sessions.create({ agent: agent.id, environment_id: made.id }),
        )

        assert.deepEqual(
          { ...(await teller.answer("environments.delete", "BetaEnvironmentDeleteResponse", () => environments.delete(made.id))) },
          { id: made.id, type: "environment_deleted" },
        )
        await teller.refused("environments.retrieve", { status: 404 }, () => environments.retrieve(made.id))
        await teller.refused("environments.delete", { status: 404 }, () => environments.delete(made.id))
      },
    },
    {
      name: "an environment that a session refers to is not deleted, and a name is given once",
      async run() {
        const { environment, session } = await teller.opened()
        await teller.refused("environments.delete", { status: 409 }, () => environments.delete(environment.id))
        assert.equal((await teller.retrieved(session.id)).environment_id, environment.id)
        await teller.refused("environments.create", { status: 409 }, () =>
          environments.create({ name: environment.name, config: { type: "self_hosted" } }),
        )
        await teller.refused("environments.create", { status: 400 }, () => environments.create({} as never))
      },
    },
  ]
}
