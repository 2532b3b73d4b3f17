/**
 * Answers to navigations to the auth pages. None has a body made of what came in, none may be
 * kept, none says where it came from.
 */
const headers = {
  'cache-control': 'no-store',
  'referrer-policy': 'no-referrer',
  // So that cross-origin isolated pages may have the hidden frame.
  'cross-origin-embedder-policy': 'require-corp',
  'cross-origin-resource-policy': 'same-origin',
}

/** On to the authorization server. */
export const redirectTo = (url: string): Response =>
  new Response(null, { status: 303, headers: { ...headers, location: url } })

/**
 * Back to a page of the app. Without a fragment of its own the target gets an empty one, because
 * a redirect that has none inherits the fragment it was called with (Fetch, "location URL"), and
 * with it whatever a server put there.
 */
export const redirectBack = (url: string): Response =>
  redirectTo(url.includes('#') ? url : `${url}#`)

/** The empty page at which a hidden frame ends. */
export const emptyPage = (): Response =>
  new Response('<!doctype html><title>tokenward</title>', {
    headers: {
      ...headers,
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': "default-src 'none'",
    },
  })

/** Header by which a page knows that the worker answered, and not the network. */
export const probeHeader = 'x-tokenward'

/** `done.html`, fetched by a page that wants to know whether the worker comes first. */
export const probeAnswer = (): Response =>
  new Response(null, { status: 204, headers: { ...headers, [probeHeader]: '1' } })

/** An answer that no server gave: it says so, and why (RFC 9457). */
export const madeUp = (status: number, title: string, more: Record<string, string>): Response =>
  new Response(JSON.stringify({ title, status }), {
    status,
    headers: { ...more, [probeHeader]: '1', 'content-type': 'application/problem+json' },
  })

/** For what only the worker may ask for: an auth page fetched, not visited; a token endpoint. */
export const refusal = (): Response => madeUp(403, 'For the service worker only', headers)
