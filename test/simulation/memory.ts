/**
 * What a worker with `storage: 'memory'` keeps off the disk, as far as the invariants have to see
 * it: they are about the record as this worker has it.
 */
import { type ActiveRecord, activeOf, type SessionRecord } from '../../sw/session/records.js'
import type { Store } from '../../sw/session/store.js'
import type { Owner } from './scheduler.js'

const offDisk = [
  'accessToken',
  'accessTokenExpiresAt',
  'refreshToken',
  'refreshSentAt',
  'idToken',
  'dpopKey',
] as const

const isIn = (record: ActiveRecord): string | undefined =>
  offDisk.find((name) => record[name] !== undefined)

interface Change {
  before: SessionRecord | undefined
  after: SessionRecord
}

export const watchMemory = (fail: (what: string) => void) => {
  /** What each worker is about to write. */
  const changes = new Map<Owner, Change>()
  /** What each has written last. */
  const views = new Map<Owner, ActiveRecord | undefined>()

  return {
    /** The store of a worker, watched. */
    watch: (store: Store, owner: Owner): Store => ({
      ...store,
      update: (next) =>
        store.update((before) => {
          const after = next(before)
          if (after) changes.set(owner, { before, after })
          return after
        }),
    }),

    /** What this commit was, as its worker sees it. */
    committed: (
      onDisk: SessionRecord,
      owner: Owner,
    ): { before: SessionRecord | undefined; after: SessionRecord } => {
      const leaked = onDisk.status === 'active' ? isIn(onDisk) : undefined
      if (leaked) fail(`${leaked} is on the disk, but storage is memory`)
      const { before, after } = changes.get(owner) as Change
      views.set(owner, activeOf(after))
      return { before, after: { ...after, generation: onDisk.generation } }
    },

    /** The last record, with what this worker has of it, rather than the one who wrote it. */
    viewOf: (last: ActiveRecord | undefined, owner: Owner): ActiveRecord | undefined => {
      if (!last) return
      const view = views.get(owner)
      const own = view?.session === last.session ? view : undefined
      return {
        ...last,
        ...Object.fromEntries(offDisk.map((name) => [name, own?.[name]])),
        accessTokenIssuedAt: own?.accessTokenIssuedAt ?? 0,
      }
    },
  }
}
