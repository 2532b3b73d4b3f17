/** Why an entry was dropped. */
export type DropReason = 'expired' | 'user_changed' | 'logout' | 'no_api' | 'failed'

/** How `tokenQueue()` keeps and sends what was written. */
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
