import { PROBE_HEADER } from '../../src/shared/protocol.js'
import type { ExtendableEvent } from '../http/worker-events.js'
import type { ApiPart, ConnectedWorker, Present } from './api-part.js'
import { createQueueEntries, type QueueEntries, toStored } from './queue-entries.js'
import type { TokenQueueOptions } from './queue-options.js'
import { createQueueReplay, isOverWithin, type QueueReplay } from './queue-replay.js'

/** ms that a write waits for the one before it, before it is written down. */
const patience = 5_000

/** Background Sync, where the browser has it; TypeScript's library does not. */
interface SyncRegistration {
  sync?: { register(tag: string): Promise<void> }
}

declare const self: ServiceWorkerGlobalScope

/** What the page gets for a request that is kept: nobody has answered it yet. */
const queued = (): Response =>
  new Response(null, {
    status: 202,
    statusText: 'Accepted',
    headers: { [PROBE_HEADER]: 'queued', 'cache-control': 'no-store' },
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
  let queue: Queue
  return {
    name,

    connect: (worker) => {
      queue = createQueue({ name, worker, options: { maxAge, replayed, failed, dropped } })
    },

    answer: (request, event) =>
      methods.includes(request.method) ? queue.answer(request, event) : undefined,

    forget: () => queue.replay.forget(),

    resume: () => queue.replay.drain(),
  }
}

/** The queue of one worker. */
interface Queue {
  /** Sends a page's write, or keeps it. Called while the event is dispatched. */
  answer(request: Request, event: ExtendableEvent): Promise<Response>
  replay: QueueReplay
}

const createQueue = ({
  name,
  worker,
  options,
}: {
  name: string
  worker: ConnectedWorker
  options: Required<Omit<TokenQueueOptions, 'methods'>>
}): Queue => {
  /** The name of the queue in the database that all of Workbox shares, and of its event. */
  const tag = `${worker.name} ${worker.scope} ${name}`
  const entries = createQueueEntries(tag, worker.platform)
  /** The last write that a page has made: the next one waits for it. */
  let last: Promise<unknown> = Promise.resolve()
  /** The one of them that is on its way to the API. Nothing that is kept overtakes it. */
  let live: Promise<unknown> | undefined
  const replay = createQueueReplay({ worker, entries, options, lock: tag, live: () => live })
  const { keep, isCancelled } = createKeeper({ worker, entries, tag })

  /** Sends a write; keeps it if it finds no network or no token. */
  const send = async ({ request, spare, by, event }: Write): Promise<Response> => {
    try {
      const sent = await worker.begin(request, event)?.send(by.user)
      if (sent && sent.response.type !== 'error') return sent.response
    } catch (cause) {
      // The page has given it up.
      if ((cause as Error).name === 'AbortError') throw cause
    }
    return isCancelled(request) ? Response.error() : await keep(spare, by, true)
  }

  const deliver = async (write: Write, before: Promise<unknown>): Promise<Response> => {
    const { request, spare, by, event } = write
    const isFree = await isOverWithin(patience, before, worker.platform)
    if (isCancelled(request)) return Response.error()
    // Not past what waits. If the disk cannot say, the API can be asked all the same.
    const waiting = await entries.size().catch(() => 0)
    if (!isFree || waiting > 0) {
      const response = await keep(spare, by, false)
      event.waitUntil(replay.drain())
      return response
    }
    const sending = send(write)
    live = sending.catch(() => {})
    return await sending
  }

  self.addEventListener('sync', (event) => {
    if ((event as ExtendableEvent & { tag: string }).tag !== tag) return
    const work = replay.drain().then((isEmpty) => {
      // The browser tries again, later and later, if the event fails.
      if (!isEmpty) throw new Error(`The queue ${name} is not empty yet.`)
    })
    event.waitUntil(work)
  })

  return {
    replay,

    answer: (request, event) => {
      const spare = request.clone()
      const before = last
      const delivery = (async () => {
        const by = await worker.present()
        if (by.user !== undefined) return await deliver({ request, spare, by, event }, before)
        return (await worker.begin(request, event)?.send())?.response ?? Response.error()
      })()
      last = delivery.catch(() => {})
      return delivery
    },
  }
}

/** A write of a page. */
interface Write {
  request: Request
  /** The request once more, its body unread. */
  spare: Request
  /** Who was signed in, and after which sign-out. */
  by: Present
  event: ExtendableEvent
}

/** Keeps writes on the disk, and asks the browser to say when the network is back. */
const createKeeper = ({
  worker,
  entries,
  tag,
}: {
  worker: ConnectedWorker
  entries: QueueEntries
  tag: string
}) => ({
  /** Has its page given this request up? */
  isCancelled: (request: Request): boolean =>
    request.signal.aborted || worker.signalOf(request)?.aborted === true,

  /** `isFirst`: it was on its way already, so it comes before what has been kept meanwhile. */
  keep: async (request: Request, by: Present, isFirst: boolean): Promise<Response> => {
    const stored = await toStored(request)
    const { user, lastSignOut } = await worker.present()
    // Signed out meanwhile: it would wait for a user who does not expect it.
    if (user !== by.user || lastSignOut !== by.lastSignOut) return Response.error()
    await entries.add(stored, { user, lastSignOut, at: worker.platform.now(), isFirst })
    // Without Background Sync, pages that are opened make up for it.
    await (self.registration as SyncRegistration).sync?.register(tag).catch(() => {})
    return queued()
  },
})
