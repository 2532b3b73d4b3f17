// The demo's three servers, put together, and the switches that break them.

import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { createApiHandler, startApi } from './api.mjs'
import { startAuthorizationServer } from './authorization-server.mjs'
import { hashInlineScripts, recommendedHeaders } from './headers.mjs'
import { bundlePages } from './pages.mjs'
import { startSite } from './site.mjs'

/**
 * @typedef {import('./start.mjs').Ports} Ports
 * @typedef {Awaited<ReturnType<typeof startAuthorizationServer>>} AuthorizationServer
 */

const USUAL_TOKEN_SECONDS = 300
const SHORT_TOKEN_SECONDS = 15

const folder = (/** @type {string} */ path) => fileURLToPath(new URL(`../${path}`, import.meta.url))

/** @param {{ ports: Ports, authorizationServer: object }} options */
export async function startServers({ ports, authorizationServer: serverOptions }) {
  const started = /** @type {{ close(): Promise<void> }[]} */ ([])
  const close = async () => {
    await Promise.all(started.map((server) => server.close()))
  }
  /** @template {{ close(): Promise<void> }} T @param {Promise<T>} starting */
  const keep = async (starting) => {
    const server = await starting
    started.push(server)
    return server
  }

  try {
    const verify = (/** @type {string} */ token) => authorizationServer.verifyAccessToken(token)
    const sameOriginApi = createApiHandler({ verify })
    const site = await keep(
      startSite({
        port: ports.app,
        roots: [folder('public')],
        mounts: {
          '/api/': sameOriginApi.handle,
          '/demo/': (request, response) => switches(request, response),
        },
      }),
    )
    const authorizationServer = await keep(
      startAuthorizationServer({
        port: ports.authorizationServer,
        accessTokenSeconds: USUAL_TOKEN_SECONDS,
        clients: [
          createClient(site.origin, 'demo', '/', 'the demo'),
          createClient(site.origin, 'demo-workbox', '/workbox/', 'the Workbox demo'),
          createClient(site.origin, 'demo-notes', '/notes/', 'Field notes'),
        ],
        ...serverOptions,
      }),
    )
    const api = await keep(startApi({ port: ports.api, origins: [site.origin], verify }))
    const { issuer } = authorizationServer
    const setEdition = (/** @type {number} */ edition) =>
      site.addFile('/env.js', { body: environment({ issuer, api: `${api.url}/` }, edition) })
    const switches = createSwitches(authorizationServer, setEdition)
    await addBuiltFiles(site)
    site.setHeaders(
      recommendedHeaders({
        site: site.origin,
        api: api.url,
        authorizationServer: issuer,
        scripts: await hashInlineScripts(['public/jquery.html', 'public/plain.html'].map(folder)),
      }),
    )
    return { url: site.url, site, authorizationServer, api, sameOriginApi, close }
  } catch (error) {
    await close()
    throw error
  }
}

/**
 * Each variant is a client of its own, so that each has its session.
 *
 * @param {string} origin @param {string} clientId @param {string} scope @param {string} name
 */
function createClient(origin, clientId, scope, name) {
  return {
    clientId,
    name,
    redirectUris: [`${origin}${scope}tokenward/callback.html`],
    postLogoutRedirectUris: [`${origin}${scope}tokenward/logout.html`],
    origins: [origin],
  }
}

/**
 * What differs from one deployment to the next, for pages and workers. A change of one byte makes
 * the browser replace the workers that import it.
 *
 * @param {{ issuer: string, api: string }} values @param {number} edition
 */
function environment(values, edition) {
  return `// Edition ${edition}\nglobalThis.env = ${JSON.stringify(values, null, 2)}\n`
}

/** @param {Awaited<ReturnType<typeof startSite>>} site */
async function addBuiltFiles(site) {
  const copies = {
    '/tokenward.js': 'dist/development/page.standalone.js',
    '/page.standalone.js.map': 'dist/development/page.standalone.js.map',
    '/tokenward-worker.js': 'dist/development/worker.classic.js',
    '/worker.classic.js.map': 'dist/development/worker.classic.js.map',
    '/jquery.js': 'node_modules/jquery/dist/jquery.min.js',
  }
  for (const [path, file] of Object.entries(copies)) {
    site.addFile(path, { body: await readFile(folder(file)) })
  }
  for (const [path, body] of await bundlePages()) site.addFile(path, { body })
}

/**
 * `POST /demo/<name>`, each answered with the state of things; `GET /demo/state` only asks.
 *
 * @param {AuthorizationServer} server @param {(edition: number) => void} setEdition
 */
function createSwitches(server, setEdition) {
  const state = { serverRunning: true, shortTokens: false, edition: 1 }
  setEdition(state.edition)

  const switches = /** @type {Record<string, () => unknown>} */ ({
    'expire-access-token': () => server.expireAccessTokens(),
    'kill-refresh-token': () => server.revokeRefreshTokens(),
    'end-server-session': () => server.endSessions(),
    'toggle-server': async () => {
      await (state.serverRunning ? server.stop() : server.start())
      state.serverRunning = !state.serverRunning
    },
    'toggle-short-tokens': () => {
      state.shortTokens = !state.shortTokens
      server.setAccessTokenSeconds(state.shortTokens ? SHORT_TOKEN_SECONDS : USUAL_TOKEN_SECONDS)
    },
    'new-worker': () => {
      state.edition += 1
      setEdition(state.edition)
    },
  })

  /**
   * @param {import('node:http').IncomingMessage} request
   * @param {import('node:http').ServerResponse} response
   */
  return async (request, response) => {
    const name = request.url?.slice(1) ?? ''
    const isQuestion = request.method === 'GET' && name === 'state'
    const isSwitch = request.method === 'POST' && Object.hasOwn(switches, name)
    if (isSwitch) await switches[name]?.()
    response.writeHead(isQuestion || isSwitch ? 200 : 404, {
      'content-type': 'application/json',
      'cache-control': 'no-store',
    })
    response.end(JSON.stringify(state))
  }
}
