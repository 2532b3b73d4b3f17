/**
 * The Web Locks of the origin.
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
const createLock = (scheduler: Scheduler, watch?: LockWatch) => {
  const waiting: Wish[] = []
  let holder: Wish | undefined

  const next = () => {
    while (!holder) {
      const wish = waiting.shift()
      if (!wish) return
      if (wish.owner.dead) continue
      holder = wish
      scheduler.add(watch ? 'the lock is granted' : 'a lock is granted', wish.grant, {
        owner: wish.owner,
      })
    }
  }

  const release = (wish: Wish) => {
    if (holder !== wish) return
    holder = undefined
    watch?.released(wish.owner)
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
            watch?.granted(owner)
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

/** @param watch Of the lock under which workers renew */
export const createLocks = (scheduler: Scheduler, watch: LockWatch) => {
  const locks = new Map<string, ReturnType<typeof createLock>>()

  const lockOf = (name: string) => {
    const lock =
      locks.get(name) ?? createLock(scheduler, name.endsWith(' renew') ? watch : undefined)
    locks.set(name, lock)
    return lock
  }

  return {
    holder: () => [...locks.values()].map((lock) => lock.holder()).find(Boolean),

    request: <T>(
      owner: Owner,
      { name, signal }: { name: string; signal: AbortSignal },
      work: () => Promise<T>,
    ): Promise<T> => lockOf(name).request(owner, signal, work),

    kill: (owner: Owner) => {
      for (const lock of locks.values()) lock.kill(owner)
    },
  }
}

export type Locks = ReturnType<typeof createLocks>
