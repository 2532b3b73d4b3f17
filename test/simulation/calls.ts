/**
 * What must hold for calls of pages and for API requests: each is over within its limit.
 */
import type { Owner, Scheduler } from './scheduler.js'

/** A call or a request, from the moment in which a worker gets it. */
export interface Call {
  what: 'api request' | 'session' | 'login' | 'checkSession' | 'renew' | 'online' | 'logout'
  owner: Owner
  /** Virtual time */
  startedAt: number
  /** ms that an API took to answer, which nobody here can help */
  atApi: number
  /** The disk was slow meanwhile. */
  isSlowed?: boolean
}

/** ms in which each has to be over: of waiting, for a request; as page and worker say, for calls */
const limits: Record<Call['what'], number> = {
  'api request': 30_000,
  session: 5_000,
  login: 5_000,
  online: 5_000,
  checkSession: 60_000,
  renew: 60_000,
  logout: 60_000,
}

export const watchCalls = (
  scheduler: Scheduler,
  /** Is the disk slow, or has it just been? */
  isSlow: () => boolean,
  fail: (what: string) => void,
) => {
  const open = new Set<Call>()
  /** All of the last minutes, the latest last. */
  const recent: Call[] = []

  return {
    start: (what: Call['what'], owner: Owner): Call => {
      const call: Call = { what, owner, startedAt: scheduler.time(), atApi: 0 }
      open.add(call)
      recent.push(call)
      while (scheduler.time() - recent[0]!.startedAt > 300_000) recent.shift()
      return call
    },

    end: (call: Call) => {
      open.delete(call)
      // How long a disk takes is nothing that a worker could limit.
      if (isSlow() || call.isSlowed) return
      const took = scheduler.time() - call.startedAt - call.atApi
      const limit = limits[call.what]
      if (took > limit) {
        fail(`${call.what} took ${took / 1000} s, which is more than ${limit / 1000} s`)
      }
    },

    /** The disk is slow from now on, or no longer. */
    diskChanges: () => {
      for (const call of open) call.isSlowed = true
    },

    /** Those of this worker that are open, or else have begun within so many ms. */
    of: (owner: Owner, what: Call['what'], within = 0): Call[] =>
      [...open, ...recent].filter(
        (call) =>
          call.owner === owner &&
          call.what === what &&
          (open.has(call) || scheduler.time() - call.startedAt < within),
      ),

    /** That nobody answers a call is no news where its worker was killed. */
    unsettled: () => [...open].filter(({ owner }) => !owner.dead),

    kill: (owner: Owner) => {
      for (const call of open) if (call.owner === owner) open.delete(call)
    },
  }
}
