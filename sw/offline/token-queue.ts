import { QueueStore, StorableRequest } from 'workbox-background-sync'
import { CANCEL_MARK } from '../../src/shared/protocol.js'
import { withTimeLimit } from '../time-limit.js'
import type { ApiDoor, ApiPart } from './api-part.js'

/** Why an entry was dropped. */
export type DropReason = 'expired' | 'user_changed' | 'logout' | 'no_api' | 'failed'

/** ms that a write waits for the one before it, before it is written down. */
const patience = 5_000
/** ms that a request that was kept may take. */
const replayLimit = 60_000

/** How {@link tokenQueue} keeps and sends what was written. */
export interface TokenQueueOptions {
  /**
   * How many seconds an entry is kept; one that is older is dropped.
   *
   * @default 604800 (seven days)
   */
  maxAge?: number
  /**
   * The methods whose requests are queued, in capitals.
   *
   * @default ['POST', 'PUT', 'PATCH', 'DELETE']
   */
  methods?: string[]
  /**
   * Called in the worker after an entry was sent, with the answer of the API. The entry goes when
   * the promise that it returns has settled; if the worker is stopped before, it is called again.
   */
  replayed?: (entry: { request: Request; response: Response }) => unknown
  /**
   * Called in the worker after an entry was tried in vain: with the answer that means later (401,
   * 408, 425, 429, 5xx), or without one where the network, or CORS, let none through. What
   * is behind it waits. `'drop'` takes it out. `tries` counts since the worker was started.
   */
  failed?: (entry: { request: Request; response?: Response; tries: number }) => unknown
  /** Called in the worker when an entry is dropped; likewise at least once. */
  dropped?: (entry: { request: Request; reason: DropReason }) => unknown
}

/** Background Sync, where the browser has it; TypeScript's library does not. */
interface SyncRegistration {
  sync?: { register(tag: string): Promise<void> }
}

declare const self: ServiceWorkerGlobalScope

/** What an entry needs beside its request. */
interface Metadata {
  /** Whose it is. */
  user: string
  /** When it was queued. ms since 1970 */
  at: number
}

type Entry = Awaited<ReturnType<QueueStore['getAll']>>[number]

/** The request of an entry; undefined if a script has written something else there. */
const requestOf = ({ requestData }: Entry): Request | undefined => {
  try {
    return new StorableRequest(requestData).toRequest()
  } catch {
    return undefined
  }
}

/** Does this answer say that the entry was not dealt with? It is sent again later, then. */
const isToRepeat = ({ status }: Response): boolean =>
  [401, 408, 425, 429].includes(status) || status >= 500

/** What the page gets for a request that is kept: nobody has answered it yet. */
const queued = (): Response =>
  new Response(null, {
    status: 202,
    statusText: 'Accepted',
    headers: { 'x-tokenward': 'queued', 'cache-control': 'no-store' },
  })

/**
 * Keeps what is written to an API without network, and sends it later, in order, with a token of
 * then; for `queue` of an entry of `apis`. The page gets `202` with the header `x-tokenward: queued`
 * for a request that is kept; anything else is the API's own answer.
 *
 * Requests of one queue are sent one after the other. They are kept where they find no network or
 * no token; an answer of the API, a 503 too, goes to the page. Kept ones are sent when the browser
 * says that it is online (Background Sync where it exists), when a page is opened, and after the
 * next write. There, 401, 408, 425, 429 and 5xx mean later; every other answer takes the entry out.
 * What is kept is the request of the page: no token is stored. It is only ever sent as the user who
 * wrote it, and dropped when that user signs out or another one signs in.
 *
 * The browser may send a request twice, or lose an answer: give each write an id of its own that
 * the API knows again (`Idempotency-Key`), or it may be applied twice.
 *
 * @param name Different for each queue of a token worker
 *
 * @example
 * createTokenWorker({
 *   issuer,
 *   clientId,
 *   apis: [{ url: '/api/notes', queue: tokenQueue('notes') }],
 * }).listen({ claim: true })
 */
export const tokenQueue = (
  name: string,
  {
    maxAge = 7 * 24 * 3600,
    methods = ['POST', 'PUT', 'PATCH', 'DELETE'],
    replayed = () => {},
    failed = () => {},
    dropped = () => {},
  }: TokenQueueOptions = {},
): ApiPart => {
  let door: ApiDoor
  let store: QueueStore
  /** The name of the queue in the database that all of Workbox shares, and of its event. */
  let tag = ''
  /** The last write that a page has made: the next one waits for it. */
  let last: Promise<unknown> = Promise.resolve()
  /** The one of them that is on its way to the API. Nothing that is kept overtakes it. */
  let live: Promise<unknown> | undefined
  let draining: Promise<boolean> | undefined
  /** Somebody has asked while it was under way: what they have kept may not have been seen. */
  let again = false
  /** Counts sign-outs: what was read before one is not to be sent after it. */
  let forgotten = 0
  const tries = new Map<number, number>()

  /** What the app does with the news is not to stop the queue. */
  const tell = async (work: () => unknown): Promise<unknown> => {
    try {
      return await work()
    } catch (error) {
      reportError(error)
      return
    }
  }

  /** Workbox goes on with a connection that the browser has closed: once more, on a new one. */
  const onDisk = async <T>(use: (store: QueueStore) => Promise<T>): Promise<T> => {
    try {
      return await use(store)
    } catch {
      store = new QueueStore(tag)
      return await use(store)
    }
  }

  /** Tells the app, and takes the entry out. In this order: at least once rather than never. */
  const settle = async ({ id }: Entry, news: () => unknown) => {
    await tell(news)
    tries.delete(id)
    await onDisk((store) => store.deleteEntry(id))
  }

  const drop = async (entry: Entry, reason: DropReason): Promise<true> => {
    const request = requestOf(entry)
    await settle(entry, () => request && dropped({ request, reason }))
    return true
  }

  /** Is this over in time? However it ends. */
  const isOverWithin = async (ms: number, work: Promise<unknown> | undefined): Promise<boolean> =>
    (await withTimeLimit(door.wait, ms, () => Promise.allSettled([work]))) !== undefined

  /** Sends an entry, or drops it; false if it has to wait. */
  const replay = async (entry: Entry): Promise<boolean> => {
    // A script may have written anything there.
    const { user, at } = Object(entry.metadata) as Partial<Metadata>
    const request = requestOf(entry)
    // No number, or one of the future: it would never be too old.
    const isOld = !(Math.abs(door.now() - Number(at)) <= maxAge * 1000)
    if (!request || !user || isOld) return await drop(entry, 'expired')
    const current = await door.user()
    // The same user may come back.
    if (current === undefined) return false
    if (current !== user) return await drop(entry, 'user_changed')
    const exchange = door.begin(request.clone(), { waitUntil: () => {} })
    if (!exchange) return await drop(entry, 'no_api')
    const response = await withTimeLimit(door.wait, replayLimit, () =>
      // No network, or an answer that CORS keeps from us.
      exchange.send(user).catch(() => undefined),
    )
    // There is no token to be had, so it was not tried.
    if (response?.type === 'error') return false
    if (response && !exchange.isRefused() && !isToRepeat(response)) {
      await settle(entry, () => replayed({ request, response }))
      return true
    }
    const count = (tries.get(entry.id) ?? 0) + 1
    tries.set(entry.id, count)
    const verdict = await tell(() => failed({ request: request.clone(), response, tries: count }))
    return verdict === 'drop' ? await drop(entry, 'failed') : false
  }

  /** Sends what is kept, in order; false if something is left. */
  const drainLocked = async (): Promise<boolean> => {
    try {
      if (!(await isOverWithin(replayLimit, live))) return false
      for (;;) {
        const before = forgotten
        const entries = await onDisk((store) => store.getAll())
        if (entries.length === 0) return true
        for (const entry of entries) {
          if (forgotten !== before) break
          if (!(await replay(entry))) return false
        }
      }
    } catch {
      // The disk fails. What is on it stays.
      return false
    }
  }

  const drain = (): Promise<boolean> => {
    again = true
    draining ??= (async () => {
      try {
        let isEmpty = true
        while (again && isEmpty) {
          again = false
          isEmpty = await door.exclusively(tag, drainLocked)
        }
        return isEmpty
      } finally {
        draining = undefined
      }
    })()
    return draining
  }

  /** `first`: it was on its way already, so it comes before what has been kept meanwhile. */
  const keep = async (request: Request, user: string, first: boolean): Promise<Response> => {
    const requestData = (await StorableRequest.fromRequest(request)).toObject()
    requestData.url = requestData.url.split(CANCEL_MARK)[0] ?? ''
    // The page that is being left will be gone by then: it can wait for a token.
    requestData['keepalive'] = false
    // Signed out meanwhile: it would wait for somebody who does not expect it.
    if ((await door.user()) !== user) return Response.error()
    const at = door.now()
    const metadata: Metadata = { user, at }
    const entry = { requestData, timestamp: at, metadata }
    await onDisk(async (store) =>
      first && (await store.size()) > 0 ? store.unshiftEntry(entry) : store.pushEntry(entry),
    )
    // Where it is forbidden or does not exist, pages that are opened do.
    await (self.registration as SyncRegistration).sync?.register(tag).catch(() => {})
    return queued()
  }

  /** Sends a write; keeps it where it finds no network or no token. */
  const send = async (
    request: Request,
    spare: Request,
    user: string,
    event: ExtendableEvent,
  ): Promise<Response> => {
    try {
      const response = await door.begin(request, event)?.send(user)
      if (response && response.type !== 'error') return response
    } catch (cause) {
      // The page has given it up.
      if ((cause as Error).name === 'AbortError') throw cause
    }
    return door.isCancelled(request) ? Response.error() : await keep(spare, user, true)
  }

  const deliver = async (
    request: Request,
    spare: Request,
    user: string,
    event: ExtendableEvent,
    before: Promise<unknown>,
  ): Promise<Response> => {
    const isFree = await isOverWithin(patience, before)
    if (door.isCancelled(request)) return Response.error()
    // Not past what waits. Where the disk cannot tell, the API can be asked all the same.
    const waiting = await onDisk((store) => store.size()).catch(() => 0)
    if (!isFree || waiting > 0) {
      const response = await keep(spare, user, false)
      event.waitUntil(drain())
      return response
    }
    const sending = send(request, spare, user, event)
    live = sending.catch(() => {})
    return await sending
  }

  return {
    name,

    connect: (given) => {
      door = given
      tag = `${door.name} ${door.scope} ${name}`
      store = new QueueStore(tag)
      self.addEventListener('sync', (event) => {
        if ((event as ExtendableEvent & { tag: string }).tag !== tag) return
        const work = drain().then((isEmpty) => {
          // The browser tries again, later and later, if the event fails.
          if (!isEmpty) throw new Error(`The queue ${name} is not empty yet.`)
        })
        event.waitUntil(work)
      })
    },

    answer: (request, event) => {
      if (!methods.includes(request.method)) return
      const spare = request.clone()
      const before = last
      const delivery = (async () => {
        const user = await door.user()
        if (user === undefined) return await door.begin(request, event)?.send()
        return await deliver(request, spare, user, event, before)
      })()
      last = delivery.catch(() => {})
      return delivery.then((response) => response ?? Response.error())
    },

    forget: async (reason) => {
      if (reason !== 'logout') return
      forgotten++
      for (const entry of await onDisk((store) => store.getAll())) await drop(entry, reason)
    },

    resume: drain,
  }
}
