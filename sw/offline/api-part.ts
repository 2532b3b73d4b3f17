import type { ExtendableEvent, Waiting } from '../http/worker-events.js'

/** The token of a request, as far as a part has to know it. */
export interface CallToken {
  accessToken: string
  /** Whose it is, as a hash that stays the same from sign-in to sign-in. */
  owner: string
}

/** What a request needs before it is sent. */
export interface Preparation {
  /** Absent: it goes without. */
  token?: CallToken
  /** The browser may have cached answers for another user, so they must not be read. */
  reload?: boolean
}

/** How a request ended. */
export interface ApiAnswer {
  response: Response
  /** The API has refused the token to the end, in whatever way it says so. */
  isRefused: boolean
}

/** One request to an API: sent as a whole, or step by step by code that does the sending. */
export interface ApiCall {
  /**
   * Sends it, and once more if its token has expired too early. Rejects with an `AbortError` if
   * the page has cancelled it: such a request is not to be kept or tried again.
   *
   * @param owner Whose request it is: it fails as a network error if another user is signed in
   */
  send(owner?: string): Promise<ApiAnswer>
  /**
   * Gets its token, or gives what the page gets without asking the API. Rejects with an
   * `AbortError` if the page has cancelled it.
   */
  prepare(): Promise<Preparation | Response>
  /** What makes a request one with this token, and with a proof if the token is bound to a key. */
  authorized(what: Request, token: CallToken): Promise<RequestInit>
  /** Takes note of what an answer says beside its body: a stronger sign-in, a nonce. */
  noteAnswer(response: Response, token: CallToken): void
  /** What the page gets for the first answer: after a 401, the answer to a second try. */
  afterFirst(response: Response, token: CallToken, spare: Request | undefined): Promise<Response>
  /** Sends it with this token; the answer is as `afterFirst` gives it. */
  sendWith(what: Request, token: CallToken): Promise<Response>
  /** The answer for the page, traced. */
  answer(response: Response): Response
  /** The token is bound to a key: each sending needs a proof of its own. */
  isProven: boolean
  /** Aborted once the page has cancelled it. */
  cancelled?: AbortSignal
}

/** Who is signed in, and what has ended before. */
export interface Present {
  /** A hash that stays the same from sign-in to sign-in; undefined without a session. */
  user?: string
  /** Names the last end of a session: an answer that was cached before it is not read. */
  lastEnd?: string
  /** Names the last sign-out, or change of users: a write from before it is not sent. */
  lastSignOut?: string
}

/** The worker, as far as its parts have to know it. */
export interface ConnectedWorker {
  /** Tells token workers apart: issuer and client. */
  name: string
  /** The worker's scope. */
  scope: string
  /** Begins a request to a configured API; undefined if no API has it, or it must not carry a token. */
  begin(request: Request, event?: Waiting): ApiCall | undefined
  /** Who is signed in, going by the session record. */
  present(): Promise<Present>
  /** Aborted once the page has cancelled this request; undefined if it never can. */
  signalOf(request: Request): AbortSignal | undefined
  platform: {
    /** Wall clock, ms since 1970. */
    now(): number
    /** Resolves after `ms`; rejects once the signal is aborted. */
    wait(ms: number, signal?: AbortSignal): Promise<void>
    /** Runs `work` while no other worker or page of this origin holds the lock `name`. */
    lock<T>(name: string, signal: AbortSignal, work: () => Promise<T>): Promise<T>
  }
}

/** A part that may answer requests of one API in its own way: from a cache, or later. */
export interface ApiPart {
  /** Two parts of a worker must not have the same. */
  name?: string
  /** Called once, as the worker starts. */
  connect(worker: ConnectedWorker): void
  /** Answers the request, or leaves it. Called synchronously, while the event is dispatched. */
  answer(request: Request, event: ExtendableEvent): Promise<Response> | undefined
  /** Drops what was kept before the last end of a session, going by the record. */
  forget(): Promise<void>
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
