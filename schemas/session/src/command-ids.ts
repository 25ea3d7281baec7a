/** The ids of the commands that a session has heard. Adding costs at most one chunk, asking one look per chunk. */
export interface CommandIds {
  readonly full: readonly ReadonlySet<string>[]
  readonly recent: readonly string[]
}

const chunk = 256

export const noCommands: CommandIds = { full: [], recent: [] }

export function heard(ids: CommandIds, commandId: string): boolean {
  return ids.recent.includes(commandId) || ids.full.some((set) => set.has(commandId))
}

export function hear(ids: CommandIds, commandId: string): CommandIds {
  const recent = [...ids.recent, commandId]
  return recent.length < chunk ? { full: ids.full, recent } : { full: [...ids.full, new Set(recent)], recent: [] }
}
