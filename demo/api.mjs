// The demo's API: every answer a test or the demo wants from a resource server, behind real CORS.

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { checkProof, ProofError } from './dpop-proof.mjs'
import { createNotes } from './notes.mjs'
import { close, createRequestLog, listen, originOf, splitTarget } from './site.mjs'

/**
 * @typedef {import('node:http').IncomingMessage} Request
 * @typedef {import('node:http').ServerResponse} Response
 * @typedef {{ sub: string, scope: string, clientId: string, jkt?: string }} TokenInfo `jkt`: the
 *   key that the token is bound to (RFC 9449 6)
 *
 * @typedef {object} ApiRequest
 * @property {number} at
 * @property {string} method
 * @property {string} path
 * @property {string} query Without the question mark
 * @property {string} authorization The scheme in lower case (`bearer`, `dpop`), or `none`
 * @property {string} [tokenHash] Tells tokens apart without showing one
 * @property {string} [origin]
 * @property {string} [referrer]
 * @property {Record<string, unknown>} headers As received, a token replaced by its hash
 * @property {number} [status] Absent while the request is under way, 0 when nothing was answered
 *
 * @typedef {object} ApiOptions
 * @property {string[]} [origins] Origins whose pages may call; none are needed on the own origin
 * @property {(token: string) => TokenInfo | undefined | Promise<TokenInfo | undefined>} verify
 * @property {string} [dpopNonce] What every DPoP proof must contain
 * @property {string} [hiddenHeaders] Of those that CORS would expose, space separated
 *
 * @typedef {object} Exchange What a route gets to see
 * @property {Request} request
 * @property {Response} response
 * @property {string} path
 * @property {URLSearchParams} query
 * @property {TokenInfo | undefined} token
 * @property {ReturnType<typeof createNotes>} notes
 */

const ORDERS = [
  { id: '1', item: 'Coffee beans', quantity: 2 },
  { id: '2', item: 'Paper filters', quantity: 100 },
  { id: '3', item: 'Hand grinder', quantity: 1 },
]

const MEGABYTE = Buffer.alloc(1024 * 1024, '0123456789abcdef')
const MAX_ECHO_BYTES = 64 * 1024 * 1024

/** @type {[methods: string, path: RegExp, answer: (exchange: Exchange) => unknown][]} */
const ROUTES = [
  ['GET', /^\/open$/, ({ response }) => sendJson(response, 200, { open: true })],
  ['GET', /^\/orders$/, ({ response }) => sendJson(response, 200, ORDERS)],
  ['GET', /^\/orders\/[^/]+$/, sendOrder],
  ['POST|PUT|PATCH|DELETE', /^\/orders(\/[^/]+)?$/, echoBody],
  ['GET', /^\/notes$/, sendNotes],
  ['POST', /^\/notes$/, editNote],
  ['PUT|DELETE', /^\/notes\/[^/]+$/, editNote],
  ['GET', /^\/me$/, ({ response, token }) => sendJson(response, 200, token)],
  ['GET', /^\/stream$/, streamEvents],
  ['GET', /^\/range$/, sendRange],
  ['GET', /^\/download$/, sendMegabytes],
  [
    'POST',
    /^\/graphql$/,
    ({ response, token }) => sendJson(response, 200, { data: { me: token } }),
  ],
  ['GET', /^\/forbidden$/, ({ response }) => refuse(response, 403, 'insufficient_scope')],
  ['.+', /^\/always-401$/, ({ response }) => refuse(response, 401, 'invalid_token')],
  [
    '.+',
    /^\/step-up$/,
    ({ response }) => refuse(response, 401, 'insufficient_user_authentication'),
  ],
  ['.+', /^\/redirect$/, redirect],
  ['.+', /^\/slow$/, answerSlowly],
  ['POST', /^\/upload$/, digestUpload],
  ['.+', /^\/echo$/, echoHeaders],
]

/**
 * The API without a server of its own, to mount on the site: `mounts: { '/api/': api.handle }`.
 *
 * @param {ApiOptions} options
 */
export function createApiHandler({ origins = [], verify, ...options }) {
  const log = createRequestLog()
  const seen = /** @type {Set<string>} */ (new Set())
  const rejected = /** @type {Set<string>} */ (new Set())
  const usedProofs = /** @type {Set<string>} */ (new Set())
  const notes = createNotes()
  const settings = { dpopNonce: options.dpopNonce, hiddenHeaders: options.hiddenHeaders ?? '' }

  /** @param {Request} request @param {Response} response */
  async function handle(request, response) {
    const { pathname: path, query } = splitTarget(request)
    const { scheme, token } = authorizationOf(request)
    const tokenHash = token === undefined ? undefined : shortHash(token)
    const { origin, referer: referrer } = request.headers
    const headers = withoutToken(request)
    log.add(
      { path, query, authorization: scheme, tokenHash, origin, referrer, headers },
      request,
      response,
    )

    // A shared cache ignores Authorization, and so does the browser's.
    response.setHeader('cache-control', 'no-store')
    allowOrigin(request, response, origins, settings.hiddenHeaders)
    if (request.method === 'OPTIONS') return response.writeHead(204).end()

    if (token !== undefined) seen.add(token)
    const { dpopNonce } = settings
    if (dpopNonce) response.setHeader('dpop-nonce', dpopNonce)
    const info = token === undefined || rejected.has(token) ? undefined : await verify(token)
    const bound = info?.jkt !== undefined
    if (!info && path === '/graphql') {
      // As such servers do it: how the request went is in the body.
      const errors = [{ message: 'Expired', extensions: { code: 'UNAUTHENTICATED' } }]
      return sendJson(response, 200, { errors })
    }
    if (!info && path !== '/open') {
      return refuse(response, 401, token && 'invalid_token', scheme === 'dpop')
    }
    const wrong = info && wrongProof(request, scheme, token ?? '', info, usedProofs, dpopNonce)
    if (wrong) return refuse(response, 401, wrong, bound)

    const method = request.method === 'HEAD' ? 'GET' : (request.method ?? '')
    const route = ROUTES.find(
      ([methods, pattern]) => pattern.test(path) && new RegExp(`^(?:${methods})$`).test(method),
    )
    if (!route) return sendProblem(response, 404, 'No such resource')
    try {
      const asked = { path, query: new URLSearchParams(query), token: info }
      await route[2]({ request, response, ...asked, notes })
    } catch (error) {
      // A body that broke off: the client has gone, there is nobody to answer.
      if (response.headersSent || !request.complete) return response.destroy()
      sendProblem(response, 400, String(error))
    }
  }

  return {
    handle,
    requests: /** @type {ApiRequest[]} */ (log.requests),
    clearRequests: log.clearRequests,
    waitForRequest: log.waitForRequest,
    /** What was done to the notes, in its order. */
    appliedEdits: notes.appliedEdits,
    /** Every token seen until now gets a 401 from now on; a new one works. */
    rejectCurrentTokens() {
      for (const token of seen) rejected.add(token)
    },
    /** From now on; undefined demands none. @param {string | undefined} nonce */
    setDpopNonce(nonce) {
      settings.dpopNonce = nonce
    },
    /** What CORS does not expose from now on. @param {string} names Space separated */
    hideHeaders(names) {
      settings.hiddenHeaders = names
    },
  }
}

/** @param {ApiOptions & { port?: number, host?: string }} options */
export async function startApi({ port = 0, host = 'localhost', ...options }) {
  const api = createApiHandler(options)
  const server = createServer(api.handle)
  await listen(server, port, host)
  return { ...api, url: originOf(server, host), close: () => close(server) }
}

/** @param {Request} request */
function authorizationOf({ headers: { authorization } }) {
  if (!authorization) return { scheme: 'none', token: undefined }
  const [scheme = '', token] = authorization.split(' ')
  return { scheme: scheme.toLowerCase(), token }
}

/** An API must never reflect a token, nor a log keep one. @param {Request} request */
function withoutToken(request) {
  const { authorization, dpop, ...others } = request.headers
  const headers =
    dpop === undefined ? others : { ...others, dpop: `sha256:${shortHash(`${dpop}`)}` }
  if (authorization === undefined) return headers
  const [scheme, token = ''] = authorization.split(' ')
  return { ...headers, authorization: `${scheme} sha256:${shortHash(token)}` }
}

/** @param {string} text */
function shortHash(text) {
  return createHash('sha256').update(text).digest('base64url').slice(0, 10)
}

/**
 * What is wrong with how a token was sent, if anything is: one that is bound to a key needs a proof
 * that was not seen before (RFC 9449 4.3 and 7.1), and no other may come with one.
 *
 * @param {Request} request @param {string} scheme @param {string} accessToken
 * @param {TokenInfo} info @param {Set<string>} used @param {string} [nonce]
 */
function wrongProof(request, scheme, accessToken, { jkt }, used, nonce) {
  if (jkt === undefined) return scheme === 'bearer' ? undefined : 'invalid_token'
  if (scheme !== 'dpop') return 'invalid_token'
  // The handler may be mounted below a path, which `request.url` no longer has.
  const { originalUrl = request.url } = /** @type {{ originalUrl?: string }} */ (request)
  const url = new URL(originalUrl ?? '', `http://${request.headers.host}`)
  try {
    const proof = checkProof(request.headers['dpop']?.toString(), {
      method: request.method ?? '',
      url: url.origin + url.pathname,
      accessToken,
      nonce,
    })
    if (proof.jkt !== jkt) return 'invalid_token'
    if (used.has(proof.jti)) return 'invalid_dpop_proof'
    used.add(proof.jti)
    return undefined
  } catch (error) {
    if (error instanceof ProofError) return error.code
    throw error
  }
}

/**
 * @param {Request} request @param {Response} response
 * @param {string[]} origins @param {string} hidden
 */
function allowOrigin(request, response, origins, hidden) {
  const { origin } = request.headers
  response.setHeader('vary', 'Origin')
  if (origin === undefined || !origins.includes(origin)) return
  response.setHeader('access-control-allow-origin', origin)
  response.setHeader('access-control-allow-credentials', 'true')
  const exposed = ['www-authenticate', 'content-range', 'location', 'dpop-nonce', 'date']
  const shown = exposed.filter((name) => !hidden.split(' ').includes(name))
  response.setHeader('access-control-expose-headers', shown.join(', '))
  if (request.method !== 'OPTIONS') return
  response.setHeader('access-control-allow-methods', 'GET, HEAD, POST, PUT, PATCH, DELETE')
  // Named one by one, because a wildcard covers neither credentials nor Authorization.
  const asked = request.headers['access-control-request-headers']
  if (asked) response.setHeader('access-control-allow-headers', asked)
}

/**
 * RFC 6750 section 3.1: a request without a token gets a challenge without an error code.
 *
 * @param {Response} response @param {number} status @param {string} [error] @param {boolean} [bound]
 */
function refuse(response, status, error, bound = false) {
  const scheme = bound ? 'DPoP algs="ES256"' : 'Bearer'
  const separator = bound ? ',' : ''
  response.setHeader('www-authenticate', error ? `${scheme}${separator} error="${error}"` : scheme)
  sendProblem(response, status, error ?? 'A token is needed')
}

/** @param {Response} response @param {number} status @param {string} detail */
function sendProblem(response, status, detail) {
  sendJson(response, status, { status, detail }, 'application/problem+json')
}

/**
 * @param {Response} response @param {number} status
 * @param {unknown} value @param {string} [type]
 */
function sendJson(response, status, value, type = 'application/json') {
  response.writeHead(status, { 'content-type': type })
  response.end(JSON.stringify(value))
}

/** @param {Exchange} exchange */
function sendOrder({ response, path }) {
  const order = ORDERS.find(({ id }) => path === `/orders/${id}`)
  return order ? sendJson(response, 200, order) : sendProblem(response, 404, 'No such order')
}

/** @param {Exchange} exchange */
function sendNotes({ response, token, notes }) {
  sendJson(response, 200, notes.list(token?.sub ?? ''))
}

/**
 * `POST /notes` with or without an `id` in the body, `PUT` and `DELETE /notes/:id`; each with an
 * `Idempotency-Key`, so that an edit can be sent again by somebody who has missed the answer.
 *
 * @param {Exchange} exchange
 */
async function editNote({ request, response, path, token, notes }) {
  const bytes = await readBody(request)
  const body = bytes?.length ? JSON.parse(bytes.toString()) : undefined
  const id = path.split('/')[2] ?? body?.id
  const key = request.headers['idempotency-key']?.toString()
  const answer = notes.edit(token?.sub ?? '', { method: request.method ?? '', id, body, key })
  sendJson(response, answer.status, answer.body)
}

/** @param {Exchange} exchange */
async function echoBody({ request, response, path }) {
  const bytes = await readBody(request)
  if (!bytes) return sendProblem(response, 413, `More than ${MAX_ECHO_BYTES} bytes`)
  const body = parseBody(bytes.toString(), request.headers['content-type'] ?? '')
  sendJson(response, 200, { method: request.method, path, size: bytes.length, body })
}

/** @param {Request} request */
async function readBody(request) {
  const chunks = []
  let size = 0
  // Leaving the loop would otherwise cut the connection before there is an answer.
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    size += chunk.length
    if (size > MAX_ECHO_BYTES) return undefined
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** @param {string} text @param {string} type */
function parseBody(text, type) {
  if (type.includes('json')) return text === '' ? null : JSON.parse(text)
  if (type.includes('urlencoded')) return Object.fromEntries(new URLSearchParams(text))
  return text
}

/** Server-Sent Events: `?count=` of them (10), one per `?ms=` (200). @param {Exchange} exchange */
async function streamEvents({ response, query }) {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  const count = Number(query.get('count') ?? 10)
  for (let number = 1; number <= count && !response.destroyed; number += 1) {
    response.write(`id: ${number}\ndata: ${JSON.stringify({ number })}\n\n`)
    await delay(Number(query.get('ms') ?? 200))
  }
  response.end()
}

/** @param {Exchange} exchange */
function sendRange({ request, response }) {
  const headers = { 'content-type': 'application/octet-stream', 'accept-ranges': 'bytes' }
  const range = /^bytes=(\d*)-(\d*)$/.exec(request.headers.range ?? '')
  if (!range || range[0] === 'bytes=-') {
    return response.writeHead(200, { ...headers, 'content-length': MEGABYTE.length }).end(MEGABYTE)
  }
  const [, from, to] = range
  const start = from === '' ? Math.max(0, MEGABYTE.length - Number(to)) : Number(from)
  const last = MEGABYTE.length - 1
  const end = from === '' || to === '' ? last : Math.min(Number(to), last)
  if (start > end) {
    return response.writeHead(416, { 'content-range': `bytes */${MEGABYTE.length}` }).end()
  }
  response.writeHead(206, {
    ...headers,
    'content-range': `bytes ${start}-${end}/${MEGABYTE.length}`,
    'content-length': end - start + 1,
  })
  response.end(MEGABYTE.subarray(start, end + 1))
}

/** `?count=` of them (50). @param {Exchange} exchange */
async function sendMegabytes({ response, query }) {
  response.writeHead(200, { 'content-type': 'application/octet-stream' })
  const count = Number(query.get('count') ?? 50)
  for (let number = 1; number <= count && !response.destroyed; number += 1) {
    if (!response.write(MEGABYTE)) await once(response, 'drain')
  }
  response.end()
}

/** `?to=` an absolute URL or a path, with `?status=` (302). @param {Exchange} exchange */
function redirect({ request, response, query }) {
  const to = query.get('to') ?? '/open'
  // Throws on what is no URL, which answers 400; only http(s) is a place to send a browser to.
  const { protocol } = new URL(to, `http://${request.headers.host}`)
  if (!/^https?:$/.test(protocol)) return sendProblem(response, 400, 'Not an http(s) URL')
  response.writeHead(Number(query.get('status') ?? 302), { location: encodeURI(decodeURI(to)) })
  response.end()
}

/** @param {Exchange} exchange */
async function answerSlowly({ response, query }) {
  const ms = Number(query.get('ms') ?? 1000)
  await delay(ms)
  sendJson(response, 200, { ms })
}

/** Counts and hashes a body of any size without keeping it. @param {Exchange} exchange */
async function digestUpload({ request, response }) {
  const hash = createHash('sha256')
  let size = 0
  for await (const chunk of request) {
    hash.update(chunk)
    size += chunk.length
  }
  sendJson(response, 200, { size, sha256: hash.digest('hex') })
}

/** @param {Exchange} exchange */
function echoHeaders({ request, response }) {
  sendJson(response, 200, { method: request.method, headers: withoutToken(request) })
}
