import { CANCEL_MARK, type Cancellation, PROTOCOL } from './shared/protocol.js'

const hasBody = ({ method }: Request): boolean => method !== 'GET' && method !== 'HEAD'

/** Copies a request to another URL. As the `init` of another, a request loses its body. */
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
 * `fetch` whose `signal` cancels the request at the API even before it answers: until then,
 * browsers do not pass an abort on to the service worker. For expensive calls, and for libraries
 * that take a `fetch`. In a page without a controlling worker, and in workers, it is `fetch`
 * itself.
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
  // The worker sees the fragment of a URL; servers never do.
  const id = crypto.randomUUID()
  const url = new URL(isRequest ? input.url : input, document.baseURI)
  url.hash = CANCEL_MARK + id
  const cancel = () =>
    worker.postMessage({ tokenward: PROTOCOL, cancel: id } satisfies Cancellation)
  signal.addEventListener('abort', cancel)
  try {
    return await fetch(isRequest ? await withUrl(input, url.href) : url, init)
  } finally {
    // From here on, the browser itself passes an abort on to the worker.
    signal.removeEventListener('abort', cancel)
  }
}
