import { QueueStore, StorableRequest } from 'workbox-background-sync'
import type { ApiDoor, ApiPart } from './api-part.js'

/** Why an entry was dropped. */
export type DropReason = 'expired' | 'user_changed' | 'logout' | 'no_api'

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
  /** Called in the worker when an entry is dropped without being sent; likewise at least once. */
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
 * @param name Different for each queue of a worker
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
    dropped = () => {},
  }: TokenQueueOptions = {},
): ApiPart => {
  let door: ApiDoor
  let store: QueueStore
  /** The name of the queue in the database that all of Workbox shares, and of its event. */
  let tag = ''
  /** The last write that a page has made: the next one waits for it. */
  let last: Promise<unknown> = Promise.resolve()
  let draining: Promise<boolean> | undefined

  /** What the app does with the news is not to stop the queue. */
  const tell = async (work: () => unknown) => {
    try {
      await work()
    } catch (error) {
      reportError(error)
    }
  }

  /** Tells the app, and takes the entry out. In this order: at least once rather than never. */
  const settle = async ({ id }: Entry, news: () => unknown) => {
    await tell(news)
    await store.deleteEntry(id)
  }

  /** Sends an entry, or drops it; false if it has to wait. */
  const replay = async (entry: Entry): Promise<boolean> => {
    // A script may have written anything there.
    const { user, at } = Object(entry.metadata) as Partial<Metadata>
    const request = requestOf(entry)
    const drop = async (reason: DropReason) => {
      await settle(entry, () => request && dropped({ request, reason }))
      return true
    }
    const isOld = at === undefined || door.now() - at > maxAge * 1000
    if (!request || !user || isOld) return await drop('expired')
    const current = await door.user()
    // The same user may come back.
    if (current === undefined) return false
    if (current !== user) return await drop('user_changed')
    const exchange = door.begin(request.clone(), { waitUntil: () => {} })
    if (!exchange) return await drop('no_api')
    const response = await exchange.send(user)
    if (response.type === 'error' || isToRepeat(response)) return false
    await settle(entry, () => replayed({ request, response }))
    return true
  }

  /** Sends what is kept, in order; false if something is left. */
  const drainLocked = async (): Promise<boolean> => {
    try {
      for (;;) {
        const entries = await store.getAll()
        if (entries.length === 0) return true
        for (const entry of entries) if (!(await replay(entry))) return false
      }
    } catch {
      // No network.
      return false
    }
  }

  const drain = (): Promise<boolean> => {
    draining ??= door.exclusively(tag, drainLocked).finally(() => {
      draining = undefined
    })
    return draining
  }

  const keep = async (request: Request, user: string): Promise<Response> => {
    const requestData = (await StorableRequest.fromRequest(request)).toObject()
    // Signed out meanwhile: it would wait for somebody who does not expect it.
    if ((await door.user()) !== user) return Response.error()
    const at = door.now()
    const metadata: Metadata = { user, at }
    await store.pushEntry({ requestData, timestamp: at, metadata })
    // Where it is forbidden or does not exist, pages that are opened do.
    await (self.registration as SyncRegistration).sync?.register(tag).catch(() => {})
    return queued()
  }

  const deliver = async (
    request: Request,
    spare: Request,
    user: string,
    event: ExtendableEvent,
  ): Promise<Response> => {
    // Not past what waits.
    if ((await store.size()) > 0) {
      const response = await keep(spare, user)
      event.waitUntil(drain())
      return response
    }
    try {
      const response = await door.begin(request, event)?.send(user)
      if (response && response.type !== 'error') return response
    } catch (cause) {
      // The page has given it up.
      if ((cause as Error).name === 'AbortError') throw cause
    }
    if (request.signal.aborted) return Response.error()
    return await keep(spare, user)
  }

  return {
    connect: (given) => {
      door = given
      tag = `tokenward ${door.scope} ${name}`
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
        await before
        return await deliver(request, spare, user, event)
      })()
      last = delivery.catch(() => {})
      return delivery.then((response) => response ?? Response.error())
    },

    forget: async (reason) => {
      if (reason !== 'logout') return
      for (const entry of await store.getAll()) {
        const request = requestOf(entry)
        await settle(entry, () => request && dropped({ request, reason }))
      }
    },

    resume: drain,
  }
}
