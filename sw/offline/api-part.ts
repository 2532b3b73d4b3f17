import type { SignedOutReason } from '../../src/shared/protocol.js'
import type { ApiExchange } from '../request/api-request.js'

/** What the worker offers to a part of an API's entry; `tokenward/workbox` makes such parts. */
export interface ApiDoor {
  /** Tells token workers apart: issuer and client. */
  name: string
  /** The worker's scope. */
  scope: string
  /** Begins a request to a configured API; undefined if it is none, or is not to have a token. */
  begin(request: Request, event: Pick<ExtendableEvent, 'waitUntil'>): ApiExchange | undefined
  /** Who is signed in, as a hash that stays the same from sign-in to sign-in; undefined: nobody. */
  user(): Promise<string | undefined>
  /** Runs `work` while no other worker or page of this origin holds the lock `name`. */
  exclusively<T>(name: string, work: () => Promise<T>): Promise<T>
  /** Has its page given this request up? */
  isCancelled(request: Request): boolean
  /** Wall clock, ms since 1970. */
  now(): number
  /** Resolves after `ms`; rejects once the signal is aborted. */
  wait(ms: number, signal?: AbortSignal): Promise<void>
}

/** A part that may answer requests of one API in its own way: from a cache, or later. */
export interface ApiPart {
  /** Two parts of a worker must not have the same. */
  name?: string
  /** Called once, as the worker starts. */
  connect(door: ApiDoor): void
  /** Answers the request, or leaves it. Called synchronously, while the event is dispatched. */
  answer(request: Request, event: ExtendableEvent): Promise<Response> | undefined
  /** The session is over: what was kept for its user goes. */
  forget(reason: SignedOutReason): Promise<void>
  /** A page has been opened, or there is a new token: what was put off can be tried. */
  resume(): Promise<unknown>
}

/** A strategy of Workbox (`workbox-strategies`), as far as the worker has to know it. */
export interface ApiStrategy {
  cacheName: string
  plugins: object[]
  matchOptions?: CacheQueryOptions
  handle(options: { request: Request; event: ExtendableEvent }): Promise<Response>
}

/** The plugin that connects a strategy with the worker: `tokenPlugin()` of `tokenward/workbox`. */
export interface StrategyPlugin {
  partOf(strategy: ApiStrategy): ApiPart
}
