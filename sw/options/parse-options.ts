import type { AuthPage } from '../../src/shared/protocol.js'
import { plainUrl } from '../http/secure-url.js'
import type { InterceptConfig } from '../request/intercept.js'
import { protocolParams } from '../server/authorization-request.js'
import type { ServerConfig } from '../server/authorization-server.js'
import type { DpopOption } from '../server/dpop.js'
import { checkMetadata } from '../server/metadata.js'
import type { StoreConfig } from '../session/store.js'
import type { AccessTokenConfig } from '../token/access-token.js'
import type { RenewalConfig } from '../token/renewal.js'
import type { SilentLoginConfig } from '../token/silent-login.js'
import type { Trace } from '../trace.js'
import { must } from '../values/must.js'
import { isRecord } from '../values/shape.js'
import { explainOptions } from './explain-options.js'
import { either, isListOf, scopesIn, seconds } from './option-values.js'
import type { TokenWorkerOptions } from './options.js'
import { parseApis } from './parse-apis.js'

declare const DEVELOPMENT: boolean

/** The options after validation, with every default filled in: what the parts need, together. */
export interface Config
  extends InterceptConfig,
    ServerConfig,
    StoreConfig,
    AccessTokenConfig,
    RenewalConfig,
    SilentLoginConfig {
  dpop?: DpopOption
  trace?: Trace
}

/** The issuer, with its metadata if the app gives them. */
const parseIssuer = (
  { issuer: given, idTokenSignature, logoutUrl }: TokenWorkerOptions,
  root: URL,
): Pick<Config, 'issuer' | 'metadata'> => {
  const { issuer } = isRecord(given) ? given : { issuer: given }
  plainUrl('issuer', issuer, root)
  const checked = { issuer: issuer as string, root: root.href, idTokenSignature, logoutUrl }
  return {
    issuer: checked.issuer,
    metadata: isRecord(given) ? checkMetadata(given, checked) : undefined,
  }
}

/** The URLs of the auth pages. */
const parseAuthUrls = (options: TokenWorkerOptions, root: URL): Config['authUrls'] => {
  const { authPath = 'tokenward/' } = options
  must(
    /^([\w-]+\/)+$/.test(authPath),
    `authPath "${authPath}"`,
    "must be a folder below the scope, like 'tokenward/'.",
  )
  const page = (name: AuthPage) => new URL(`${authPath}${name}.html`, root).href
  const { redirectUri: callback = page('callback') } = options
  const { href, pathname } = plainUrl('redirectUri', callback, root)
  // The worker would take each visit of that page for an answer of the server, and redirect it.
  must(
    href !== root.href && !/\/((index|default)\.[^/]*)?$/i.test(pathname),
    `redirectUri "${callback}"`,
    'is a page of the app, and has to be a URL of its own, where nothing else is shown. Register ' +
      `${page('callback')} at the server, which needs no option here.`,
  )
  must(
    href.startsWith(root.href),
    `redirectUri "${callback}"`,
    `must lie inside the worker's scope ${root.href}.`,
  )
  // The worker compares it with what the browser visits, and the server with what is registered.
  must(href === callback, 'redirectUri', `must be written as browsers write it: "${href}".`)
  const authUrls = {
    login: page('login'),
    silent: page('silent'),
    callback,
    done: page('done'),
    logout: page('logout'),
  }
  must(
    new Set(Object.values(authUrls)).size === 5,
    'redirectUri',
    'must not be one of the other auth pages.',
  )
  return authUrls
}

const parseParams = (given: unknown): Config['authorizationParams'] => {
  must(isRecord(given), 'authorizationParams', 'must be an object.')
  const reserved = Object.keys(given).find((name) => protocolParams.has(name))
  must(
    reserved === undefined,
    'authorizationParams',
    `must not contain ${reserved}: tokenward sets it, or has an option for it.`,
  )
  return given as Record<string, string>
}

/**
 * Checks the options of `createTokenWorker` against the scope of the worker's registration.
 *
 * @throws TokenError `invalid_configuration`, with the option and the remedy. In the production
 * build, a value of a wrong kind may throw a `TypeError` instead.
 */
export const parseOptions = (options: TokenWorkerOptions, scope: string): Config => {
  if (DEVELOPMENT) explainOptions(options)
  const root = new URL(scope)
  const { clientId, storage = 'indexeddb', dpop, idTokenSignature, logoutUrl, trace } = options
  const server = parseIssuer(options, root)
  must(clientId && typeof clientId === 'string', 'clientId', 'must be a string.')
  // A value of another kind could leave tokens unbound, or a sign-out without effect.
  for (const [name, value] of Object.entries({ dpop, logoutUrl, trace })) {
    must(value === undefined || typeof value === 'function', name, 'must be a function.')
  }
  // `jwks` itself, without brackets, would check nothing.
  must(
    idTokenSignature === undefined || isRecord(idTokenSignature),
    'idTokenSignature',
    'must be jwks().',
  )
  const { trustedAudiences } = options
  must(
    trustedAudiences === undefined || isListOf(trustedAudiences, /./),
    'trustedAudiences',
    "must be a list of strings, like ['https://api.example.com/'].",
  )
  const authUrls = parseAuthUrls(options, root)
  const { rules, scopes, resource } = parseApis(options.apis, root)
  return {
    ...server,
    clientId,
    apis: rules,
    scope: [...new Set([...scopesIn('scope', options.scope ?? 'openid'), ...scopes])].join(' '),
    resource,
    authorizationParams: parseParams(options.authorizationParams ?? {}),
    leeway: seconds('leeway', options.leeway ?? 60, [0, 3600]),
    silentLogin: options.silentLogin ?? true,
    silentLoginTimeout: seconds('silentLoginTimeout', options.silentLoginTimeout ?? 10, [1, 20]),
    rotationGrace: seconds('rotationGrace', options.rotationGrace ?? 0, [0, 3600]),
    storage: either('storage', storage, ['indexeddb', 'memory']),
    dpop,
    authUrls,
    root: root.href,
    idTokenSignature,
    trustedAudiences,
    logoutUrl,
    trace,
  }
}
