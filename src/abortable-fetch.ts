import { CANCEL_MARK, type Cancellation, PROTOCOL } from './shared/protocol.js'

const hasBody = ({ method }: Request): boolean => method !== 'GET' && method !== 'HEAD'

/** The request with another URL: a request as the `init` of another would lose its body. */
const withUrl = async (request: Request, url: string): Promise<Request> => {
  const { method, headers, mode, credentials, cache, redirect } = request
  const { referrer, referrerPolicy, integrity, keepalive, signal } = request
  return new Request(url, {
    ...{ method, headers, mode, credentials, cache, redirect },
    ...{ referrer, referrerPolicy, integrity, keepalive, signal },
    ...(hasBody(request) && { body: await request.blob() }),
  })
}

/**
 * `fetch` whose `signal` reaches the API even before there is an answer: browsers do not tell a
 * service worker that a page has given up a request until then. For calls that are worth it, and
 * for libraries that take a `fetch`. Where no worker controls the page, and in workers, it is
 * `fetch` itself.
 *
 * @example
 * const search = new AbortController()
 * abortableFetch('https://api.example.com/search?q=tea', { signal: search.signal })
 * search.abort()
 */
export const abortableFetch = async (
  input: RequestInfo | URL,
  init?: RequestInit,
): Promise<Response> => {
  const worker = globalThis.navigator?.serviceWorker?.controller
  const isRequest = input instanceof Request
  const signal = init?.signal === undefined && isRequest ? input.signal : init?.signal
  if (!worker || !signal || signal.aborted) return await fetch(input, init)
  // The fragment is the one part of a URL that the worker sees and no server ever does.
  const id = crypto.randomUUID()
  const url = new URL(isRequest ? input.url : input, document.baseURI)
  url.hash = CANCEL_MARK + id
  const cancel = () =>
    worker.postMessage({ tokenward: PROTOCOL, cancel: id } satisfies Cancellation)
  signal.addEventListener('abort', cancel)
  try {
    return await fetch(isRequest ? await withUrl(input, url.href) : url, init)
  } finally {
    // From here on, the browser itself tells the worker.
    signal.removeEventListener('abort', cancel)
  }
}
