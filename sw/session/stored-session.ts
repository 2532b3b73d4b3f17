import type { TokenError } from '../../src/shared/errors.js'
import type { Platform } from '../platform.js'
import { ageOf } from '../values/age.js'
import { inherit } from './active-record.js'
import { type ActiveRecord, activeOf, type DpopKey, type SessionRecord } from './records.js'
import type { RecordChange, Store } from './store.js'
import { createUnsaved } from './unsaved.js'

type Next<Current> = (current: Current) => SessionRecord | undefined

/** The session record: in memory while that can be trusted, else from the disk. */
export interface StoredSession {
  /** What memory knows, if it can be trusted: a record, or that it is missing. Synchronous. */
  peek(): { record: SessionRecord | undefined } | undefined
  /** From memory, else from the disk. */
  read(): Promise<SessionRecord | undefined>
  /** From the disk. */
  readAgain(): Promise<SessionRecord | undefined>
  /** Changes the record on disk by compare and set: see `Store.update`. */
  change(next: Next<SessionRecord | undefined>): Promise<RecordChange>
  /**
   * Changes the record only while it still belongs to this sign-in. What the disk would not take
   * is kept in memory, and written with the next try.
   */
  changeOwn(session: string, next: Next<ActiveRecord>): Promise<ActiveRecord | undefined>
  /** The stored data is gone: drops memory, and announces it, so that others read again. */
  lost(): void
}

/** What binds tokens to keys: see server/dpop.ts. */
export interface KeyHolder {
  /** Is the private half of this key here? Tokens that are bound to another one are worthless. */
  canUse(key: DpopKey | undefined): boolean
  /** The record has changed: forgets what belonged to a session that is over. */
  changed(before: SessionRecord | undefined, after: SessionRecord | undefined): void
}

/** After a pause this long, in ms, an announcement may have been missed: the record is read again. */
const trustMemoryFor = 1_000

/** The record without tokens that are bound to a key which is not here. */
const withUsable = (
  record: SessionRecord | undefined,
  dpop?: KeyHolder,
): SessionRecord | undefined =>
  record?.status === 'active' && (dpop ? !dpop.canUse(record.dpopKey) : record.dpopKey)
    ? { ...record, accessToken: undefined, refreshToken: undefined }
    : record

/** Tokens that this worker cannot use stay in the record for one that has their key. */
const keepUnusable = (wanted: SessionRecord | undefined, current: SessionRecord | undefined) => {
  if (wanted?.status !== 'active' || current?.status !== 'active') return wanted
  const { accessToken, refreshToken, dpopKey } = current
  const isSame = dpopKey && wanted.dpopKey === dpopKey && !wanted.accessToken
  return isSame ? { ...wanted, accessToken, refreshToken } : wanted
}

interface Parts {
  config: { root: string }
  store: Pick<Store, 'name' | 'inMemory' | 'read' | 'update'>
  platform: Pick<Platform, 'now' | 'channel'>
  dpop?: KeyHolder
  forget?: () => Promise<unknown>
  onUnsaved: (error: TokenError) => Promise<unknown>
}

/**
 * Reads and changes the session record. Every change goes to the disk first, and is announced to
 * the other workers of this origin and their pages. The pages of this worker get events instead.
 *
 * @param forget Drops what else was kept for the user, if the session has ended
 * @param onUnsaved Called when memory begins to hold what the disk would not take
 */
export function createStoredSession({
  config: { root: scope },
  store,
  platform: { now, channel },
  dpop,
  forget,
  onUnsaved,
}: Parts): StoredSession {
  const unsaved = createUnsaved({ store, onUnsaved })
  let memory: { record: SessionRecord | undefined } | undefined
  let lastUsed = 0
  /** Counts announcements and own changes: what was read from the disk before one may be old. */
  let heard = 0
  /** The record was missing when it was last read. */
  let isEmpty = false

  const letGo = () => {
    heard++
    memory = undefined
  }

  // If another worker has ended the session, what only this worker has must not outlive it.
  const follow = forget ?? (store.inMemory ? store.read : async () => {})

  const others = channel(store.name, () => {
    letGo()
    follow().catch(() => {})
  })

  const lost = () => {
    letGo()
    others.post({ generation: 0, scope: '' })
  }

  const usable = (onDisk: SessionRecord | undefined) => withUsable(unsaved.over(onDisk), dpop)

  const peek = () => {
    const time = now()
    if (ageOf(lastUsed, time) > trustMemoryFor) memory = undefined
    lastUsed = time
    return memory
  }

  const readAgain = async (): Promise<SessionRecord | undefined> => {
    // The disk may have room by now. It is announced only if it has: two workers that announce what
    // they fail to write would call each other without end.
    const saved = await unsaved.save()
    if (saved) others.post({ generation: saved.generation, scope })
    const heardBefore = heard
    const record = usable(await store.read())
    if (heard !== heardBefore) return usable(await store.read())
    if (!record && !isEmpty) lost()
    isEmpty = !record
    memory = { record }
    lastUsed = now()
    return record
  }

  const change = async (
    next: Next<SessionRecord | undefined>,
    isKept = false,
  ): Promise<RecordChange> => {
    const heardBefore = heard
    const { before, after } = await unsaved.update((current) => {
      const shown = usable(current)
      const wanted = shown === current ? next(shown) : keepUnusable(next(shown), current)
      // Inside the transaction: a worker that hears it and reads has to wait for the commit, and
      // one that is stopped right after the commit has announced it.
      if (wanted) others.post({ generation: (current?.generation ?? 0) + 1, scope })
      return wanted && inherit(wanted, current)
    }, isKept)
    memory = heard === heardBefore ? { record: usable(after) } : undefined
    // A read that repairs the disk takes long enough to be overtaken.
    heard++
    dpop?.changed(before, after)
    return { before, after }
  }

  return {
    peek,
    readAgain,
    change: (next) => change(next),
    lost,

    read: async () => {
      const known = peek()
      return known ? known.record : await readAgain()
    },

    changeOwn: async (session, next) => {
      const isOwn = (record: SessionRecord | undefined) => activeOf(record)?.session === session
      const wanted = (current: SessionRecord | undefined) =>
        isOwn(current) ? next(current as ActiveRecord) : undefined
      const own = usable((await change(wanted, true)).after)
      return isOwn(own) ? (own as ActiveRecord) : undefined
    },
  }
}
