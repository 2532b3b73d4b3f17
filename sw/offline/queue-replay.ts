import { withTimeLimit } from '../time-limit.js'
import { timeBetween } from '../values/age.js'
import type { ConnectedWorker } from './api-part.js'
import type { QueueEntries, QueueEntry } from './queue-entries.js'
import type { DropReason, TokenQueueOptions } from './queue-options.js'

/** Sends what is kept. */
export interface QueueReplay {
  /** Sends what is kept, in order; false if something is left. Calls that overlap share it. */
  drain(): Promise<boolean>
  /** Drops what was kept before the last sign-out. */
  forget(): Promise<void>
}

/** ms that a request that was kept may take. */
const replayLimit = 60_000

/** Does this answer say that the entry was not dealt with? It is sent again later, then. */
const isToRepeat = ({ status }: Response): boolean =>
  [401, 408, 425, 429].includes(status) || status >= 500

/** An error of the app's callback must not stop the queue. */
const safely = async (work: () => unknown): Promise<unknown> => {
  try {
    return await work()
  } catch (error) {
    reportError(error)
    return
  }
}

/** Is this over in time, however it ends? */
export const isOverWithin = async (
  ms: number,
  work: Promise<unknown> | undefined,
  { wait }: Pick<ConnectedWorker['platform'], 'wait'>,
): Promise<boolean> =>
  (await withTimeLimit(wait, ms, () => Promise.allSettled([work]))) !== undefined

interface Parts {
  worker: ConnectedWorker
  entries: QueueEntries
  options: Required<Omit<TokenQueueOptions, 'methods'>>
}

/** Creates what sends or drops a single entry. */
const createReplay = ({
  worker,
  entries,
  options: { maxAge, replayed, failed, dropped },
}: Parts): ((entry: QueueEntry) => Promise<boolean>) => {
  const { now, wait } = worker.platform
  const tries = new Map<number, number>()

  /** Calls the app, and takes the entry out. In this order: at least once rather than never. */
  const settle = async ({ id }: QueueEntry, news: () => unknown) => {
    await safely(news)
    tries.delete(id)
    await entries.delete(id)
  }

  const drop = async (entry: QueueEntry, reason: DropReason): Promise<true> => {
    const { request } = entry
    await settle(entry, () => request && dropped({ request, reason }))
    return true
  }

  /** Sends an entry, or drops it; false if it has to wait. */
  const replay = async (entry: QueueEntry): Promise<boolean> => {
    const { id, request, user, at, lastSignOut } = entry
    // An entry without a number, or one of the future, would never be too old.
    const isOld = !(timeBetween(now(), at) <= maxAge * 1000)
    if (!request || !user || isOld) return await drop(entry, 'expired')
    const current = await worker.present()
    const isOther = current.user !== undefined && current.user !== user
    if (isOther || current.lastSignOut !== lastSignOut) {
      return await drop(entry, isOther ? 'user_changed' : 'logout')
    }
    // The same user may come back.
    if (current.user === undefined) return false
    const call = worker.begin(request.clone())
    if (!call) return await drop(entry, 'no_api')
    const sent = await withTimeLimit(wait, replayLimit, () =>
      // No network, or an answer that CORS keeps from us.
      call.send(user).catch(() => undefined),
    )
    const response = sent?.response
    // No token can be had, so it was not tried.
    if (response?.type === 'error') return false
    if (response && !sent?.isRefused && !isToRepeat(response)) {
      await settle(entry, () => replayed({ request, response }))
      return true
    }
    const count = (tries.get(id) ?? 0) + 1
    tries.set(id, count)
    const verdict = await safely(() => failed({ request: request.clone(), response, tries: count }))
    return verdict === 'drop' ? await drop(entry, 'failed') : false
  }

  return replay
}

/**
 * Creates the replay of a queue.
 *
 * @param lock Name of the lock under which one worker at a time sends
 * @param live The write of a page that is on its way to the API: it is not overtaken
 */
export function createQueueReplay({
  lock,
  live,
  ...parts
}: Parts & { lock: string; live: () => Promise<unknown> | undefined }): QueueReplay {
  const { worker, entries } = parts
  const replay = createReplay(parts)
  let draining: Promise<boolean> | undefined
  /** A call came while it was under way: what its caller has kept may have been missed. */
  let again = false
  /** The last sign-out for which what was kept before it has been dropped. */
  let cleared: string | null | undefined = null

  const drainLocked = async (): Promise<boolean> => {
    try {
      if (!(await isOverWithin(replayLimit, live(), worker.platform))) return false
      for (;;) {
        const before = cleared
        const kept = await entries.all()
        if (kept.length === 0) return true
        for (const entry of kept) {
          // The rest has been dropped.
          if (cleared !== before) break
          if (!(await replay(entry))) return false
        }
      }
    } catch {
      // The disk fails. What is on it stays.
      return false
    }
  }

  const drainAll = async (): Promise<boolean> => {
    try {
      let isEmpty = true
      while (again && isEmpty) {
        again = false
        isEmpty = await worker.platform.lock(lock, new AbortController().signal, drainLocked)
      }
      return isEmpty
    } finally {
      draining = undefined
    }
  }

  return {
    drain: () => {
      again = true
      draining ??= drainAll()
      return draining
    },

    forget: async () => {
      const { lastSignOut } = await worker.present()
      if (lastSignOut === cleared) return
      cleared = lastSignOut
      for (const entry of await entries.all()) {
        if (entry.lastSignOut !== lastSignOut) await replay(entry)
      }
    },
  }
}
