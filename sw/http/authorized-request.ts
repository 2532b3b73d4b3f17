/** What `fetch` and `new Request` need to know to send a request again as the page wrote it. */

/** How a request with a token differs from the page's own. */
export interface Authorization {
  accessToken: string
  /** The browser's cache may have answers for another user. */
  reload?: boolean
  /** `error`: a redirect fails the request. */
  redirect?: RequestRedirect
  /** Cancels the request. */
  signal?: AbortSignal
}

/** The browser's cache ignores Authorization, so an answer in it may be another user's. */
const cacheFor = ({ cache }: Request, reload: boolean | undefined): RequestInit =>
  reload && cache !== 'no-store' ? { cache: 'reload' } : {}

/** Makes the request one with this token. */
export const authorizedInit = (
  request: Request,
  { accessToken, reload, redirect, signal }: Authorization,
): RequestInit => {
  const headers = new Headers(request.headers)
  headers.set('authorization', `Bearer ${accessToken}`)
  // `new Request` and `fetch` drop the referrer when they get an init without it.
  const { referrer, referrerPolicy } = request
  const init = { headers, referrer, referrerPolicy, signal, ...cacheFor(request, reload) }
  return redirect && request.redirect === 'follow' ? { ...init, redirect } : init
}

/** Sends the request without a token; undefined if it can go as it is. */
export const bareInit = (
  request: Request,
  { reload, signal }: Pick<Authorization, 'reload' | 'signal'>,
): RequestInit | undefined => {
  const { referrer, referrerPolicy } = request
  return reload || signal
    ? { referrer, referrerPolicy, signal, ...cacheFor(request, reload) }
    : undefined
}
