import { PROBE_HEADER } from '../../src/shared/protocol.js'
import { problem } from '../http/problem.js'

/**
 * Answers to navigations to the auth pages. No body repeats what came in, no cache keeps them, no
 * referrer says where they came from.
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
 * Back to a page of the app. A target without a fragment gets an empty one: otherwise the browser
 * would keep the fragment of the URL that it comes from (Fetch, "location URL"), and with it
 * whatever a server put there.
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

/** `done.html`, fetched by a page that wants to know whether the worker comes first. */
export const probeAnswer = (): Response =>
  new Response(null, { status: 204, headers: { ...headers, [PROBE_HEADER]: '1' } })

/** For what only the worker may ask for: an auth page fetched, not visited; a token endpoint. */
export const refusal = (): Response => problem(403, 'For the service worker only', headers)
