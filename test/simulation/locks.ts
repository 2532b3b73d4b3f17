/**
 * The Web Lock of the origin. The worker asks for one name only, so there is one lock here.
 */
import type { Owner, Scheduler } from './scheduler.js'

interface Wish {
  owner: Owner
  grant: () => void
}

/** Who watches the lock. */
export interface LockWatch {
  granted(owner: Owner): void
  released(owner: Owner): void
}

/** Granted in the order of the wishes, and released when the holder dies. */
export const createLocks = (scheduler: Scheduler, watch: LockWatch) => {
  const waiting: Wish[] = []
  let holder: Wish | undefined

  const next = () => {
    while (!holder) {
      const wish = waiting.shift()
      if (!wish) return
      if (wish.owner.dead) continue
      holder = wish
      scheduler.add('the lock is granted', wish.grant, { owner: wish.owner })
    }
  }

  const release = (wish: Wish) => {
    if (holder !== wish) return
    holder = undefined
    watch.released(wish.owner)
    next()
  }

  return {
    holder: () => holder?.owner,

    request: <T>(owner: Owner, signal: AbortSignal, work: () => Promise<T>): Promise<T> =>
      new Promise((resolve, reject) => {
        const onAbort = () => {
          const index = waiting.indexOf(wish)
          if (index >= 0) waiting.splice(index, 1)
          release(wish)
          reject(signal.reason)
        }
        const wish: Wish = {
          owner,
          grant: () => {
            // Given up in the same moment.
            if (holder !== wish) return
            signal.removeEventListener('abort', onAbort)
            watch.granted(owner)
            work()
              .finally(() => release(wish))
              .then(resolve, reject)
          },
        }
        signal.throwIfAborted()
        signal.addEventListener('abort', onAbort)
        waiting.push(wish)
        next()
      }),

    kill: (owner: Owner) => {
      if (holder?.owner === owner) release(holder)
    },
  }
}

export type Locks = ReturnType<typeof createLocks>
