/**
 * The checks that only explain, for the development build: what they refuse does no harm in
 * production. What protects is checked by parse-options.ts and parse-apis.ts, in both builds.
 */

import { must } from '../values/must.js'
import { isPlain } from '../values/shape.js'
import type { ApiOptions, TokenWorkerOptions } from './options.js'

const optionNames = {
  issuer: true,
  clientId: true,
  apis: true,
  scope: true,
  authorizationParams: true,
  leeway: true,
  silentLoginTimeout: true,
  rotationGrace: true,
  storage: true,
  dpop: true,
  authPath: true,
  redirectUri: true,
  idTokenSignature: true,
  logoutUrl: true,
  trace: true,
} satisfies Record<keyof TokenWorkerOptions, true>

const apiOptionNames = {
  url: true,
  scope: true,
  resource: true,
  unauthenticated: true,
  destinations: true,
  methods: true,
  redirect: true,
  expired: true,
  strategy: true,
  queue: true,
} satisfies Record<keyof ApiOptions, true>

/** What people who come from other libraries look for. */
const remedies: ReadonlyMap<string, string> = new Map([
  ['audience', 'authorizationParams'],
  ['authority', 'issuer'],
  ['domain', 'issuer'],
  ['clientsecret', 'none: a browser cannot keep a secret, so register a public client'],
])

const refuseUnknownNames = (where: string, given: object, known: object) => {
  const names = Object.keys(known)
  for (const name of Object.keys(given)) {
    const plain = name.replaceAll('_', '').toLowerCase()
    const remedy = names.find((each) => each.toLowerCase() === plain) ?? remedies.get(plain)
    must(
      names.includes(name),
      `unknown ${where} "${name}".`,
      `Use ${remedy ?? `one of: ${names.join(' ')}`}.`,
    )
  }
}

/**
 * Explains what is wrong with the options beside what protects.
 *
 * @throws TokenError `invalid_configuration`, naming the option and the remedy
 */
export const explainOptions = (options: object): void => {
  refuseUnknownNames('option', options, optionNames)
  const { authorizationParams = {} } = options as TokenWorkerOptions
  must(isPlain(authorizationParams), 'authorizationParams', 'must be an object.')
  for (const [name, value] of Object.entries(authorizationParams)) {
    must(typeof value === 'string', `authorizationParams: ${name}`, 'must be a string.')
  }
}

/**
 * Explains what is wrong with an entry of `apis` beside what protects.
 *
 * @throws TokenError `invalid_configuration`
 */
export const explainApi = (name: string, api: object): void => {
  refuseUnknownNames('option of an API', api, apiOptionNames)
  const { resource, methods, expired, queue } = api as ApiOptions
  must(
    resource === undefined || typeof resource === 'string',
    `${name}: resource`,
    'must be a URI.',
  )
  const isList =
    Array.isArray(methods) &&
    methods.every((method) => typeof method === 'string' && /^[A-Z]+$/.test(method))
  must(methods === undefined || isList, `${name}: methods`, "must be a list like ['GET', 'HEAD'].")
  must(
    expired === undefined || typeof expired === 'function',
    `${name}: expired`,
    'must be a function.',
  )
  must(
    queue === undefined || typeof queue === 'object',
    `${name}: queue`,
    "must be tokenQueue('a name').",
  )
}
