import type { AuthPage } from '../../src/shared/protocol.js'
import { plainUrl } from '../http/secure-url.js'
import type { InterceptConfig } from '../request/intercept.js'
import { protocolParams } from '../server/authorization-request.js'
import type { ServerConfig } from '../server/authorization-server.js'
import type { DpopOption } from '../server/dpop.js'
import { type AuthorizationServerMetadata, checkMetadata } from '../server/metadata.js'
import type { StoreConfig } from '../session/store.js'
import type { AccessTokenConfig } from '../token/access-token.js'
import type { RenewalConfig } from '../token/renewal.js'
import type { SilentLoginConfig } from '../token/silent-login.js'
import type { Trace } from '../trace.js'
import { must } from '../values/must.js'
import { isObject, isPlain } from '../values/shape.js'
import { explainOptions } from './explain-options.js'
import { either, scopeList, seconds } from './option-values.js'
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
  /** Binds tokens to keys. */
  dpop?: DpopOption
  trace?: Trace
}

const parseParams = (given: Record<string, string>): Record<string, string> => {
  for (const name of Object.keys(given)) {
    must(
      !protocolParams.has(name),
      `authorizationParams must not contain ${name}`,
      '(tokenward sets it, or has an option for it).',
    )
  }
  return given
}

/** The absolute URLs of the auth pages, `callback` being the redirect URI. */
const parseAuthUrls = (
  { authPath = 'tokenward/', redirectUri }: Pick<TokenWorkerOptions, 'authPath' | 'redirectUri'>,
  root: URL,
): Record<AuthPage, string> => {
  must(
    /^([\w-]+\/)+$/.test(authPath),
    `authPath "${authPath}"`,
    "must be a folder below the scope, like 'tokenward/'.",
  )
  const page = (name: string) => new URL(`${authPath}${name}.html`, root).href
  const callback = redirectUri ?? page('callback')
  const { href } = plainUrl('redirectUri', callback, root)
  must(
    href.startsWith(root.href),
    `redirectUri "${callback}"`,
    `must lie inside the worker's scope ${root.href}.`,
  )
  // The browser's visits and the server compare it as text.
  must(href === callback, 'redirectUri', `must be written as browsers do: "${href}".`)
  const urls = {
    login: page('login'),
    silent: page('silent'),
    callback,
    done: page('done'),
    logout: page('logout'),
  }
  const isApart = new Set(Object.values(urls)).size === 5
  must(isApart, 'redirectUri', 'must not be one of the other auth pages.')
  return urls
}

const parseIssuer = (given: TokenWorkerOptions['issuer'], root: URL) => {
  const metadata = isObject(given) ? (given as AuthorizationServerMetadata) : undefined
  const issuer = (metadata?.issuer ?? given) as string
  plainUrl('issuer', issuer, root)
  if (metadata) checkMetadata(metadata, { issuer, root: root.href })
  return { issuer, metadata }
}

/**
 * Checks the options of `createTokenWorker` against the scope of the worker's registration.
 *
 * @throws TokenError `invalid_configuration`, naming the option; in development also the remedy
 */
export const parseOptions = (options: TokenWorkerOptions, scope: string): Config => {
  must(isPlain(options), 'give it an object', 'with issuer, clientId and apis.')
  if (DEVELOPMENT) explainOptions(options)
  const root = new URL(scope)
  const { clientId, dpop, idTokenSignature, logoutUrl, trace } = options
  const { issuer, metadata } = parseIssuer(options.issuer, root)
  must(clientId && typeof clientId === 'string', 'clientId', 'must be a string.')
  for (const [name, value] of Object.entries({ dpop, logoutUrl, trace })) {
    must(value === undefined || typeof value === 'function', name, 'is not a function.')
  }
  // jwks itself, without brackets, would check nothing.
  const isSignature = idTokenSignature === undefined || isObject(idTokenSignature)
  must(isSignature, 'idTokenSignature', 'must be jwks().')
  const authUrls = parseAuthUrls(options, root)
  const { rules, scopes, resource } = parseApis(options.apis, root)
  const { leeway = 60, silentLoginTimeout = 10, rotationGrace = 0 } = options
  return {
    issuer,
    metadata,
    clientId,
    apis: rules,
    scope: [...new Set([...scopeList(options.scope ?? 'openid'), ...scopes])].join(' '),
    resource,
    authorizationParams: parseParams(options.authorizationParams ?? {}),
    leeway: seconds('leeway', leeway, { least: 0, most: 3600 }),
    silentLoginTimeout: seconds('silentLoginTimeout', silentLoginTimeout, { least: 1, most: 20 }),
    rotationGrace: seconds('rotationGrace', rotationGrace, { least: 0, most: 3600 }),
    storage: either('storage', options.storage ?? 'indexeddb', ['indexeddb', 'memory']),
    dpop,
    authUrls,
    root: root.href,
    idTokenSignature,
    logoutUrl,
    trace,
  }
}
