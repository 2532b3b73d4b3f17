/**
 * The worker with one of its safeguards taken away, by wrapping its platform or its store.
 */
import type { Platform } from '../../sw/platform.js'
import type { SessionRecord } from '../../sw/session/records.js'
import type { Store } from '../../sw/session/store.js'

/** Something the worker relies on, broken from outside. */
export interface Mutation {
  platform?: (platform: Platform) => Platform
  store?: (store: Store) => Store
}

/**
 * Each takes away one of the things that keep sessions alive. The simulation has to fail with
 * each of them; with one that it does not notice, it would prove nothing.
 */
export const mutations: Record<string, Mutation> = {
  /** Everybody gets the lock at once. */
  'no lock': {
    platform: (platform) => ({ ...platform, lock: (_name, _signal, work) => work() }),
  },

  /** Nothing says that a refresh token has been sent. */
  'no intent record': {
    store: (store) => ({
      ...store,
      update: (next) =>
        store.update((current) => {
          const wanted = next(current)
          return wanted?.status === 'active' ? { ...wanted, refreshSentAt: undefined } : wanted
        }),
    }),
  },

  /** Reading again gives what was there before, also to who has waited for the lock. */
  'no re-read': {
    store: (store) => {
      let seen: { record: SessionRecord | undefined } | undefined
      return {
        ...store,
        read: async () => {
          seen ??= { record: await store.read() }
          return seen.record
        },
        update: async (next) => {
          const result = await store.update(next)
          seen = { record: result.after }
          return result
        },
      }
    },
  },

  /** What is written was worked out from a record that may be an old one by then. */
  'no compare-and-set': {
    store: (store) => ({
      ...store,
      update: async (next) => {
        const before = await store.read()
        const wanted = next(before)
        if (!wanted) return { before, after: before }
        const { after } = await store.update(() => wanted)
        return { before, after }
      },
    }),
  },
}

export const mutationNames = Object.keys(mutations)
