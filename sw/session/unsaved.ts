import { isTokenError, type TokenError } from '../../src/shared/errors.js'
import { type ActiveRecord, activeOf, type SessionRecord } from './records.js'
import type { RecordChange, Store } from './store.js'

/** What the disk would not take. A full disk must not end renewing, so memory has it meanwhile. */
export interface Unsaved {
  /** As in `Store`. `isKept`: what cannot be written is kept, for a session that goes on. */
  update(
    next: (current: SessionRecord | undefined) => SessionRecord | undefined,
    isKept: boolean,
  ): Promise<RecordChange>
  /** What is kept in the place of the record that is on the disk, or that record. */
  over(onDisk: SessionRecord | undefined): SessionRecord | undefined
  /** Writes what is kept, if there is room by now; gives what has been written. */
  save(): Promise<SessionRecord | undefined>
}

/**
 * Creates the memory of what cannot be written.
 *
 * @param onUnsaved Called when it begins to hold something
 */
export function createUnsaved({
  store,
  onUnsaved,
}: {
  store: Pick<Store, 'update'>
  onUnsaved: (error: TokenError) => Promise<unknown>
}): Unsaved {
  /** It stands for `base`, as long as that is on the disk. */
  let kept: { record: ActiveRecord; base: ActiveRecord } | undefined

  const over: Unsaved['over'] = (onDisk) => {
    const record = activeOf(onDisk)
    // What somebody else has written of the same tokens says less than what is kept.
    const isBase =
      record?.session === kept?.base.session &&
      record?.accessToken === kept?.base.accessToken &&
      record?.refreshToken === kept?.base.refreshToken
    if (!isBase) kept = undefined
    return kept?.record ?? onDisk
  }

  return {
    over,

    save: async () => {
      if (!kept) return undefined
      const write = store.update((current) => {
        const wanted = over(current)
        return wanted === current ? undefined : wanted
      })
      const change = await write.catch(() => undefined)
      if (!change || change.after === change.before) return undefined
      kept = undefined
      return change.after
    },

    update: async (next, isKept) => {
      let record: SessionRecord | undefined
      let base: SessionRecord | undefined
      try {
        const change = await store.update((current) => {
          base = current
          record = next(current)
          return record
        })
        if (change.after !== change.before) kept = undefined
        return change
      } catch (cause) {
        const isActive = base?.status === 'active' && record?.status === 'active'
        if (!isKept || !isActive || !isTokenError(cause)) throw cause
        if (!kept) onUnsaved(cause).catch(() => {})
        kept = { record: record as ActiveRecord, base: base as ActiveRecord }
        return { before: base, after: base }
      }
    },
  }
}
