// The demo's web site: a small static file server, and the two helpers every server here shares.

import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname, join, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * @typedef {import('node:http').IncomingMessage} Request
 * @typedef {import('node:http').ServerResponse} Response
 * @typedef {Record<string, string | number | undefined>} Headers
 * @typedef {string | Uint8Array} Body
 *
 * @typedef {object} SiteRequest
 * @property {number} at
 * @property {string} method
 * @property {string} path
 * @property {string} query Without the question mark
 * @property {import('node:http').IncomingHttpHeaders} headers
 * @property {number} [status] Absent while the request is under way, 0 when nothing was answered
 *
 * @typedef {object} VirtualFile
 * @property {Body | ((request: Request) => Body | Promise<Body>)} body
 * @property {string} [type] Content type; by default told from the path
 *
 * @typedef {object} SiteOptions
 * @property {number} [port] 0 takes a free one
 * @property {string} [host]
 * @property {string[]} roots Folders that are laid over each other; the first that has a file wins
 * @property {Record<string, (request: Request, response: Response) => unknown>} [mounts] Handlers
 *   by path prefix (`/api/`). They see `request.url` without the prefix, `originalUrl` with it
 * @property {(path: string) => Headers | undefined} [headers] Added last; `undefined` removes one
 * @property {string} [fallback] What an unknown page answers with (`/index.html`), as SPA hosts do
 * @property {string} [base] Where in the site the roots start
 */

const CONTENT_TYPES = /** @type {Record<string, string>} */ ({
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.ico': 'image/x-icon',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.map': 'application/json',
  '.mjs': 'text/javascript; charset=utf-8',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
  '.webmanifest': 'application/manifest+json',
  '.woff2': 'font/woff2',
})

// The five auth paths, in any scope: one server can hold several apps.
const AUTH_PATH = /\/tokenward\/(?:login|silent|callback|done|logout)\.html$/

// An authorization code in the URL must find nothing that could read, frame, cache or refer it.
const AUTH_PATH_HEADERS = {
  'content-security-policy':
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store',
  'cross-origin-opener-policy': 'same-origin',
}

const PUBLIC_FOLDER = fileURLToPath(new URL('../public', import.meta.url))

/** @param {SiteOptions} options */
export async function startSite({
  port = 0,
  host = 'localhost',
  roots,
  mounts = {},
  headers = () => undefined,
  fallback,
  base = '/',
}) {
  const log = createRequestLog()
  const files = /** @type {Map<string, VirtualFile>} */ (new Map())
  let extraHeaders = headers

  const server = createServer((request, response) => {
    const { pathname, query } = splitTarget(request)
    log.add({ path: pathname, query, headers: { ...request.headers } }, request, response)
    serve(request, response, pathname).catch((error) => {
      console.error(error)
      response.destroy()
    })
  })
  await listen(server, port, host)
  const origin = originOf(server, host)

  /** @param {Request} request @param {Response} response @param {string} pathname */
  async function serve(request, response, pathname) {
    const mount = Object.entries(mounts).find(([prefix]) => pathname.startsWith(prefix))
    if (mount) {
      const [prefix, handler] = mount
      Object.assign(request, { originalUrl: request.url })
      request.url = request.url?.slice(prefix.length - 1)
      return handler(request, response)
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return send(request, response, pathname, 405, 'Method not allowed\n', { allow: 'GET, HEAD' })
    }
    const path = decodePath(pathname)
    const file = path === undefined ? undefined : await find(path, request)
    if (file === undefined) {
      return send(request, response, pathname, 404, 'Not found\n', {})
    }
    if ('redirect' in file) {
      return send(request, response, pathname, 302, '', { location: file.redirect })
    }
    return send(request, response, pathname, 200, file.body, { 'content-type': file.type })
  }

  /**
   * @param {string} path @param {Request} request
   * @returns {Promise<{ body: Body, type: string } | { redirect: string } | undefined>}
   */
  async function find(path, request) {
    const virtual = files.get(path)
    if (virtual) {
      const body = typeof virtual.body === 'function' ? await virtual.body(request) : virtual.body
      return { body, type: virtual.type ?? contentType(path) }
    }
    if (AUTH_PATH.test(path)) {
      // Never the app shell, whose scripts would read the code.
      const name = path.slice(path.lastIndexOf('/'))
      return (
        (await readFrom(roots, path.slice(base.length - 1))) ??
        (await readFrom([PUBLIC_FOLDER], `/tokenward${name}`))
      )
    }
    if (`${path}/` === base) return { redirect: base }
    const found = path.startsWith(base)
      ? await readFrom(roots, path.slice(base.length - 1))
      : undefined
    if (found === 'folder') return { redirect: encodeURI(`${path.replace(/^\/+/, '/')}/`) }
    if (found || !fallback || !request.headers.accept?.includes('text/html')) return found
    return files.has(fallback) ? find(fallback, request) : readFrom(roots, fallback)
  }

  /**
   * @param {Request} request @param {Response} response @param {string} path
   * @param {number} status @param {Body} body @param {Headers} own
   */
  function send(request, response, path, status, body, own) {
    const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`
    const all = {
      'content-type': 'text/plain; charset=utf-8',
      'cache-control': 'no-cache',
      'x-content-type-options': 'nosniff',
      ...own,
      ...(status === 200 ? { etag } : {}),
      ...(AUTH_PATH.test(path) ? AUTH_PATH_HEADERS : {}),
      ...extraHeaders(path),
    }
    for (const [name, value] of Object.entries(all)) {
      if (value !== undefined) response.setHeader(name, value)
    }
    const known = status === 200 && request.headers['if-none-match'] === etag
    response.statusCode = known ? 304 : status
    if (!known) response.setHeader('content-length', Buffer.byteLength(body))
    response.end(known || request.method === 'HEAD' ? undefined : body)
  }

  return {
    origin,
    /** Where the app starts: origin and base. */
    url: origin + base,
    requests: /** @type {SiteRequest[]} */ (log.requests),
    clearRequests: log.clearRequests,
    waitForRequest: log.waitForRequest,
    /** @param {(path: string) => Headers | undefined} [fn] */
    setHeaders(fn = () => undefined) {
      extraHeaders = fn
    },
    /** @param {string} path From the site's root @param {VirtualFile} file */
    addFile(path, file) {
      files.set(path, file)
    },
    /** @param {string} path */
    removeFile(path) {
      files.delete(path)
    },
    close: () => close(server),
  }
}

/** @param {string} pathname @returns {string | undefined} undefined: not a path we would serve */
function decodePath(pathname) {
  try {
    const path = decodeURIComponent(pathname)
    const hidden = path.split('/').some((segment) => /^\.(?!well-known$)/.test(segment))
    return hidden || /[\\\0]/.test(path) ? undefined : path
  } catch {
    return undefined
  }
}

/**
 * @param {string[]} roots @param {string} path
 * @returns {Promise<any>} `{ body, type }`, 'folder', or undefined
 */
async function readFrom(roots, path) {
  for (const root of roots) {
    const file = join(root, path.endsWith('/') ? `${path}index.html` : path)
    if (!file.startsWith(join(root, sep))) continue
    const found = await stat(file).catch(() => undefined)
    if (found?.isFile()) return { body: await readFile(file), type: contentType(file) }
    if (found?.isDirectory()) return 'folder'
  }
  return undefined
}

/** @param {string} path */
function contentType(path) {
  return CONTENT_TYPES[extname(path)] ?? 'application/octet-stream'
}

/**
 * Keeps what a server was asked, for tests to look at and wait for.
 *
 * `status` is set when the request is over: what was sent, or 0 when nothing was.
 */
export function createRequestLog() {
  const requests = /** @type {any[]} */ ([])
  const listeners = /** @type {Set<(entry: any) => void>} */ (new Set())

  /** @param {any} entry */
  function tell(entry) {
    for (const listener of listeners) listener(entry)
  }

  return {
    requests,
    clearRequests() {
      requests.length = 0
    },
    /** @param {object} details @param {Request} request @param {Response} response */
    add(details, request, response) {
      const entry = { at: Date.now(), method: request.method, ...details, status: undefined }
      /** @param {number} status */
      const settle = (status) => {
        entry.status ??= /** @type {any} */ (status)
        tell(entry)
      }
      response.once('finish', () => settle(response.statusCode))
      response.once('close', () => settle(response.headersSent ? response.statusCode : 0))
      requests.push(entry)
      tell(entry)
    },
    /**
     * Resolves with the first request, past or to come, that satisfies the predicate. It is asked
     * when a request arrives and again when it is over (`status` is set).
     *
     * @param {(entry: any) => unknown} predicate @param {number} [ms]
     * @returns {Promise<any>}
     */
    waitForRequest(predicate, ms = 5000) {
      const past = requests.find(predicate)
      if (past) return Promise.resolve(past)
      return new Promise((resolve, reject) => {
        /** @param {any} entry */
        const listener = (entry) => {
          if (predicate(entry)) finish(() => resolve(entry))
        }
        const timer = setTimeout(() => {
          const seen = requests.map(({ method, path, status }) => `${method} ${path} ${status}`)
          finish(() => reject(new Error(`no such request in ${ms} ms, but: ${seen.join(', ')}`)))
        }, ms)
        /** @param {() => void} settle */
        const finish = (settle) => {
          clearTimeout(timer)
          listeners.delete(listener)
          settle()
        }
        listeners.add(listener)
      })
    },
  }
}

/** @param {Request} request */
export function splitTarget(request) {
  const target = request.url ?? '/'
  const mark = target.indexOf('?')
  return mark === -1
    ? { pathname: target, query: '' }
    : { pathname: target.slice(0, mark), query: target.slice(mark + 1) }
}

/**
 * @param {import('node:http').Server} server @param {number} port @param {string} host
 * @returns {Promise<void>}
 */
export function listen(server, port, host) {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

/** @param {import('node:http').Server} server @param {string} host */
export function originOf(server, host) {
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  return `http://${host}:${port}`
}

/**
 * Stops listening and cuts every connection, also those that wait for an answer.
 *
 * @param {import('node:http').Server} server @returns {Promise<void>}
 */
export function close(server) {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
