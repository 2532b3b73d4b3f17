import { must } from '../values/must.js'
import { isRecord } from '../values/shape.js'
import type { ApiOptions, TokenWorkerOptions } from './options.js'

/*
 * The checks that only explain a mistake. Only the development build has them: without them, a wrong
 * option has no effect, or fails with an error of its own. A check protects, and belongs to
 * `parse-options.ts` or `parse-apis.ts` and so to both builds, if the wrong value could do harm:
 * send a token elsewhere or more often, ask for more rights, mix users, skip a protection. In doubt,
 * a check protects. A misspelt name is ignored in production, because no check can tell what it was
 * meant to be.
 */

const optionNames = {
  issuer: true,
  clientId: true,
  apis: true,
  scope: true,
  authorizationParams: true,
  leeway: true,
  silentLogin: true,
  silentLoginTimeout: true,
  rotationGrace: true,
  storage: true,
  dpop: true,
  authPath: true,
  redirectUri: true,
  idTokenSignature: true,
  trustedAudiences: true,
  logoutUrl: true,
  trace: true,
} satisfies Record<keyof TokenWorkerOptions, true>

const apiOptionNames = {
  url: true,
  scope: true,
  resource: true,
  except: true,
  unauthenticated: true,
  destinations: true,
  methods: true,
  redirect: true,
  expired: true,
  strategy: true,
  queue: true,
} satisfies Record<keyof ApiOptions, true>

/** What people who come from other libraries look for, in lower case. */
const remedies: ReadonlyMap<string, string> = new Map([
  ['audience', 'authorizationParams'],
  ['authority', 'issuer'],
  ['domain', 'issuer'],
  ['token', 'nothing: APIs get the access token, and never the ID token'],
  ['clientsecret', 'no secret: a browser cannot keep one, so register a public client'],
])

const refuseUnknownNames = (what: string, given: object, known: object) => {
  const names = Object.keys(known)
  for (const name of Object.keys(given)) {
    const plain = name.replaceAll('_', '').toLowerCase()
    const remedy = names.find((each) => each.toLowerCase() === plain) ?? remedies.get(plain)
    const advice = remedy ?? `one of: ${names.join(' ')}`
    must(names.includes(name), `unknown ${what} "${name}".`, `Use ${advice}.`)
  }
}

/**
 * Explains mistakes in the options of `createTokenWorker`, apart from the entries of `apis`.
 *
 * @throws TokenError `invalid_configuration`
 */
export const explainOptions = (options: unknown) => {
  must(isRecord(options), 'options', 'must be an object with issuer, clientId and apis.')
  refuseUnknownNames('option', options, optionNames)
  const { authorizationParams: params, silentLogin = true } = options
  must(typeof silentLogin === 'boolean', 'silentLogin', 'must be true or false.')
  if (!isRecord(params)) return
  for (const [name, value] of Object.entries(params)) {
    must(typeof value === 'string', `authorizationParams: ${name}`, 'must be a string.')
  }
}

/**
 * Explains mistakes in an entry of `apis`, which errors call `name`.
 *
 * @throws TokenError `invalid_configuration`
 */
export const explainApi = (name: string, api: Record<string, unknown>) => {
  refuseUnknownNames('option of an API', api, apiOptionNames)
  const { expired, queue } = api
  must(
    expired === undefined || typeof expired === 'function',
    `${name}: expired`,
    'must be a function.',
  )
  must(queue === undefined || isRecord(queue), `${name}: queue`, "must be tokenQueue('a name').")
}
