import { QueueStore, StorableRequest } from 'workbox-background-sync'
import { CANCEL_MARK } from '../../src/shared/protocol.js'
import { withTimeLimit } from '../time-limit.js'
import type { ConnectedWorker } from './api-part.js'

/** A write that is kept on the disk. */
export interface QueueEntry {
  id: number
  /** Undefined if a script has written something else there. */
  request: Request | undefined
  /** Whose it is; undefined likewise. */
  user: string | undefined
  /** When it was queued, ms since 1970; NaN likewise. */
  at: number
  /** The last sign-out then. */
  lastSignOut?: string
}

/** The entries of a queue, in order, on the disk. */
export interface QueueEntries {
  all(): Promise<QueueEntry[]>
  size(): Promise<number>
  /** `isFirst`: before all that are there, rather than after them. */
  add(
    request: StoredRequest,
    by: Pick<QueueEntry, 'user' | 'at' | 'lastSignOut'> & { isFirst: boolean },
  ): Promise<void>
  delete(id: number): Promise<void>
}

/** A request as it lies on the disk. */
export type StoredRequest = Stored['requestData']

type Stored = Awaited<ReturnType<QueueStore['getAll']>>[number]

/** ms. Any page of the origin can block the database for as long as it likes. */
const diskLimit = 6_000

const requestOf = ({ requestData }: Stored): Request | undefined => {
  try {
    return new StorableRequest(requestData).toRequest()
  } catch {
    return undefined
  }
}

const entryOf = (stored: Stored): QueueEntry => {
  const { user, at, lastSignOut } = Object(stored.metadata) as Partial<QueueEntry>
  return { id: stored.id, request: requestOf(stored), user, at: Number(at), lastSignOut }
}

/** Reads the request, body and all, to keep it. */
export const toStored = async (request: Request): Promise<StoredRequest> => {
  const stored = (await StorableRequest.fromRequest(request)).toObject()
  stored.url = stored.url.split(CANCEL_MARK)[0] ?? ''
  // The page that is being left will be gone by then: the request can wait for a token.
  stored['keepalive'] = false
  return stored
}

/** Opens the queue `tag` in the database that all of Workbox shares. */
export function createQueueEntries(
  tag: string,
  { wait }: Pick<ConnectedWorker['platform'], 'wait'>,
): QueueEntries {
  let store = new QueueStore(tag)

  const onDisk = async <T>(use: (store: QueueStore) => Promise<T>): Promise<T> => {
    const done = await withTimeLimit(wait, diskLimit, async () => {
      try {
        return { value: await use(store) }
      } catch {
        // Workbox goes on with a connection that the browser has closed: once more, on a new one.
        store = new QueueStore(tag)
        return { value: await use(store) }
      }
    })
    if (done) return done.value
    throw new DOMException('Another connection blocks the database.', 'TimeoutError')
  }

  return {
    all: async () => (await onDisk((store) => store.getAll())).map(entryOf),

    size: () => onDisk((store) => store.size()),

    add: async (requestData, { isFirst, ...metadata }) => {
      const entry = { requestData, timestamp: metadata.at, metadata }
      await onDisk(async (store) =>
        isFirst && (await store.size()) > 0 ? store.unshiftEntry(entry) : store.pushEntry(entry),
      )
    },

    delete: (id) => onDisk((store) => store.deleteEntry(id)),
  }
}
