// `npm run demo`: everything from a bare clone. Tests start the same demo with `startDemo()`.
// Imports nothing but Node's own modules until the dependencies are installed.

import crypto from 'node:crypto'
import { realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { installDependencies } from '../test/support/install.mjs'

/**
 * @typedef {{ app: number, authorizationServer: number, api: number }} Ports 0 takes a free one
 *
 * @typedef {object} DemoOptions
 * @property {Partial<Ports>} [ports] By default 4200, 4210 and 4220
 * @property {boolean} [quiet] Says nothing
 * @property {object} [authorizationServer] More options for `startAuthorizationServer`
 */

const HELP = `npm run demo                    the app on http://localhost:4200
npm run demo -- --port 4300     on 4300, the authorization server on 4310, the API on 4320
PORT=4300 npm run demo          the same; 0 takes free ports`

/** What is wrong outside of the demo; shown without a stack. */
class SetupError extends Error {}

/** @param {DemoOptions} [options] */
export async function startDemo({ ports = {}, quiet = false, authorizationServer = {} } = {}) {
  checkNode()
  installDependencies()
  const { build } = await import('../esbuild.config.mjs')
  await build({ quiet, types: false })
  const { startServers } = await import('./servers.mjs')
  return startServers({
    ports: { app: 4200, authorizationServer: 4210, api: 4220, ...ports },
    authorizationServer,
  })
}

/** By what is there, because newer features came to old release lines at different times. */
function checkNode() {
  if ('parse' in URL && 'hash' in crypto) return
  throw new SetupError(
    `The demo's authorization server (oidc-provider) needs Node 22 or newer, or the latest 20. ` +
      `This is Node ${process.versions.node}.`,
  )
}

/** @returns {Ports | undefined} undefined: only help was asked for */
function readPorts() {
  const { values } = parseArgs({ options: { port: { type: 'string' }, help: { type: 'boolean' } } })
  if (values.help) return undefined
  const given = values.port ?? process.env.PORT ?? '4200'
  const app = Number(given)
  if (!/^\d+$/.test(given) || app > 65_515) {
    throw new SetupError(`--port ${given} is not a port from 0 to 65515.`)
  }
  const next = (/** @type {number} */ step) => (app === 0 ? 0 : app + step)
  return { app, authorizationServer: next(10), api: next(20) }
}

async function main() {
  const ports = readPorts()
  if (!ports) return console.log(HELP)
  const demo = await startDemo({ ports })
  console.log(`
  tokenward demo        ${demo.url}
  Field notes, a PWA    ${demo.url}notes/

  Sign in as            alice, bob or carol, password demo
  Authorization server  ${demo.authorizationServer.url}
  API                   ${demo.api.url}

  Ctrl-C stops all three.
`)
  const stop = () => demo.close().then(() => process.exit())
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, stop)
}

/** @param {any} error */
function explain(error) {
  if (error.code === 'EADDRINUSE') {
    return `Port ${error.port} is taken. Stop what uses it, or take others: npm run demo -- --port 4300`
  }
  if (error.errors) return 'The build failed.'
  const isPlain = error instanceof SetupError || error.code?.startsWith('ERR_PARSE_ARGS')
  return isPlain ? error.message : error.stack
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  await main().catch((error) => {
    console.error(explain(error))
    process.exit(1)
  })
}
