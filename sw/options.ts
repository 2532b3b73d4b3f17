import { TokenError } from '../src/shared/errors.js'
import type { AuthPage } from '../src/shared/protocol.js'
import type { AuthorizationServerMetadata } from './authorization-server.js'
import type { Trace } from './trace.js'

/** An API whose requests get the access token. */
export interface ApiOptions {
  /**
   * Origin and path: an absolute URL, or a path on the app's own origin. A request belongs to the
   * API if its origin is the same and its path starts with the same segments: `/api/` covers
   * `/api/orders` but not `/apiary`.
   */
  url: string
  /** Scopes this API needs, space separated; they are asked for when the user signs in. */
  scope?: string
  /**
   * The resource indicator of this API (RFC 8707). All APIs share one access token for now, so
   * all of them name the same resource or none.
   */
  resource?: string
  /**
   * What a request gets while nobody is signed in: `pass` sends it without a token, so that the
   * API gives its own answer; `fail` lets it fail as a network error.
   *
   * @default 'pass'
   */
  unauthenticated?: 'pass' | 'fail'
}

/** What a worker without `end_session_endpoint` is given to build its own logout URL. */
export interface LogoutContext {
  clientId: string
  /** `<scope>tokenward/logout.html`: register it as a post-logout redirect URI. */
  postLogoutRedirectUri: string
}

/** Everything there is to configure. It lives in the worker script alone. */
export interface TokenWorkerOptions {
  /**
   * The issuer identifier, exactly as the server's metadata and ID tokens spell it (mind the
   * trailing slash); its metadata is discovered (OpenID Connect Discovery 1.0, RFC 8414). For
   * servers without usable discovery: the metadata itself, as an object.
   */
  issuer: string | AuthorizationServerMetadata
  /** The client identifier of this app, registered as a public client (no secret). */
  clientId: string
  /** The APIs whose requests get the access token. */
  apis: (string | ApiOptions)[]
  /**
   * Scopes to ask for, space separated. Which one brings a refresh token differs by server: see
   * the server table in the README.
   *
   * @default 'openid'
   */
  scope?: string
  /**
   * More parameters for the authorization request: `audience`, `prompt`, `organization`, ….
   *
   * @default {}
   */
  authorizationParams?: Record<string, string>
  /**
   * How many seconds before its end an access token is renewed; at most half its lifetime.
   *
   * @default 60
   */
  leeway?: number
  /**
   * How many seconds a hidden frame gets to sign in silently, 1 to 20.
   *
   * @default 10
   */
  silentLoginTimeout?: number
  /**
   * The folder of the five auth pages, relative to the worker's scope.
   *
   * @default 'tokenward/'
   */
  authPath?: string
  /**
   * The redirect URI, where one is registered already: an absolute URL inside the worker's scope,
   * without query and fragment.
   *
   * @default '<scope>tokenward/callback.html'
   */
  redirectUri?: string
  /** Builds the logout URL for servers whose metadata has no `end_session_endpoint`. */
  logoutUrl?: (context: LogoutContext) => string
  /** Called with each step of the worker's work; it carries no secret. For demos and debugging. */
  trace?: Trace
}

/** One API as `intercept.ts` compares it. */
export interface ApiRule {
  origin: string
  /** Path segments that a request's path must start with. */
  segments: readonly string[]
  unauthenticated: 'pass' | 'fail'
}

/** The options after validation, with every default filled in. */
export interface Config {
  issuer: string
  /** Given metadata; absent where it is discovered. */
  metadata?: AuthorizationServerMetadata
  clientId: string
  apis: readonly ApiRule[]
  scope: string
  resource?: string
  authorizationParams: Readonly<Record<string, string>>
  /** ms */
  leeway: number
  /** ms */
  silentLoginTimeout: number
  /** Absolute URLs of the auth pages, without query. `callback` is the redirect URI. */
  authUrls: Readonly<Record<AuthPage, string>>
  /** The worker's scope. */
  root: string
  /** http is allowed, because worker and server are on a loopback host. */
  loopback: boolean
  logoutUrl?: (context: LogoutContext) => string
  trace?: Trace
}

const optionNames = [
  'issuer',
  'clientId',
  'apis',
  'scope',
  'authorizationParams',
  'leeway',
  'silentLoginTimeout',
  'authPath',
  'redirectUri',
  'logoutUrl',
  'trace',
]

const apiOptionNames = ['url', 'scope', 'resource', 'unauthenticated']

/** Names that other libraries use, and what to write here instead. */
const remedies: Record<string, string> = {
  audience: "authorizationParams: { audience: '…' }",
  authority: 'issuer',
  authorizationparams: 'authorizationParams',
  cachelocation: 'nothing: tokens are kept by the worker',
  client_id: 'clientId',
  clientsecret:
    'nothing: a browser cannot keep a secret. Register a public client (with PKCE) instead',
  client_secret:
    'nothing: a browser cannot keep a secret. Register a public client (with PKCE) instead',
  domain: 'issuer',
  redirect_uri: 'redirectUri',
  scopes: 'scope',
}

/** Parameters that belong to the protocol, or have an option of their own. */
export const protocolParams: ReadonlySet<string> = new Set([
  'client_id',
  'code_challenge',
  'code_challenge_method',
  'dpop_jkt',
  'id_token_hint',
  'nonce',
  'redirect_uri',
  'request',
  'request_uri',
  'resource',
  'response_mode',
  'response_type',
  'scope',
  'state',
])

const wrong = (message: string): TokenError =>
  new TokenError('invalid_configuration', `createTokenWorker: ${message}`)

export const isLoopback = (hostname: string): boolean =>
  hostname === 'localhost' ||
  hostname.endsWith('.localhost') ||
  hostname === '[::1]' ||
  /^127(\.\d+){3}$/.test(hostname)

const refuseUnknownNames = (where: string, given: object, known: readonly string[]) => {
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue
    const plain = name.toLowerCase().replaceAll('_', '')
    const near = known.find((each) => each.toLowerCase() === plain)
    const remedy = near ?? remedies[name.toLowerCase()]
    throw wrong(
      `${where} has no "${name}". ` +
        (remedy ? `Use ${remedy}.` : `There is: ${known.join(', ')}.`),
    )
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const secureUrl = (name: string, value: unknown, loopback: boolean, base?: string): URL => {
  if (typeof value !== 'string' || value === '') throw wrong(`${name} must be a URL.`)
  let url: URL
  try {
    url = new URL(value, base)
  } catch {
    throw wrong(`${name} "${value}" is not a URL. Write it out, with https://.`)
  }
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && isLoopback(url.hostname))) {
    throw wrong(`${name} "${value}" must use https; http is for localhost only.`)
  }
  if (url.protocol === 'http:' && !loopback) {
    throw wrong(`${name} "${value}" uses http, but this app does not run on localhost.`)
  }
  if (url.username || url.password || url.hash || url.search) {
    throw wrong(`${name} "${value}" must not have a user, a query or a fragment.`)
  }
  if (value.includes('*')) throw wrong(`${name} "${value}" must not have a wildcard.`)
  return url
}

const seconds = (name: string, value: unknown, least: number, most: number): number => {
  if (typeof value !== 'number' || !(value >= least && value <= most)) {
    throw wrong(`${name} must be a number of seconds from ${least} to ${most}.`)
  }
  return value * 1000
}

const scopeList = (name: string, value: unknown): string[] => {
  if (typeof value !== 'string') throw wrong(`${name} must be a string, scopes space separated.`)
  return value.split(' ').filter(Boolean)
}

/** Path segments, without the empty ones that a slash at either end makes. */
export const segmentsOf = (pathname: string): string[] =>
  pathname
    .replace(/^\/|\/$/g, '')
    .split('/')
    .filter((segment, _, all) => all.length > 1 || segment)

const parseApi = (
  given: unknown,
  root: URL,
  loopback: boolean,
): ApiRule & { scopes: string[]; resource?: string } => {
  const api = typeof given === 'string' ? { url: given } : given
  if (!isRecord(api)) throw wrong('an entry of apis must be a URL, a path or { url, … }.')
  refuseUnknownNames('an entry of apis', api, apiOptionNames)
  const { url, scope = '', resource, unauthenticated = 'pass' } = api
  if (typeof url === 'string' && !/^(https?:\/\/|\/(?![/\\]))/i.test(url)) {
    throw wrong(`apis entry "${url}" must start with https:// or, on this origin, with one "/".`)
  }
  const { origin, pathname } = secureUrl('an entry of apis', url, loopback, root.href)
  if (unauthenticated !== 'pass' && unauthenticated !== 'fail') {
    throw wrong(`apis entry "${url}": unauthenticated must be 'pass' or 'fail'.`)
  }
  if (resource !== undefined && typeof resource !== 'string') {
    throw wrong(`apis entry "${url}": resource must be a URI.`)
  }
  return {
    origin,
    segments: segmentsOf(pathname),
    unauthenticated,
    scopes: scopeList(`apis entry "${url}": scope`, scope),
    ...(resource !== undefined && { resource }),
  }
}

const parseApis = (given: unknown, root: URL, loopback: boolean) => {
  if (!Array.isArray(given)) throw wrong("apis must be a list, for example ['/api/'].")
  const apis = given.map((api) => parseApi(api, root, loopback))
  const keys = apis.map(({ origin, segments }) => `${origin}/${segments.join('/')}`)
  const twice = keys.find((key, index) => keys.indexOf(key) !== index)
  if (twice) throw wrong(`apis names ${twice} twice.`)
  const resources = new Set(apis.flatMap(({ resource }) => resource ?? []))
  if (resources.size > 1) {
    throw wrong(
      `apis name ${resources.size} resources (${[...resources].join(', ')}), but all APIs share ` +
        'one access token for now. Keep one resource.',
    )
  }
  const [resource] = resources
  // The longest path first, so that the first rule that matches is the closest one.
  apis.sort((a, b) => b.segments.length - a.segments.length)
  return { apis, scopes: apis.flatMap(({ scopes }) => scopes), resource }
}

const parseIssuer = (given: unknown, loopback: boolean) => {
  if (typeof given === 'string') {
    secureUrl('issuer', given, loopback)
    return { issuer: given }
  }
  if (!isRecord(given)) throw wrong("issuer must be a URL or the server's metadata.")
  secureUrl('issuer: issuer', given['issuer'], loopback)
  const metadata = given as unknown as AuthorizationServerMetadata
  for (const name of ['authorization_endpoint', 'token_endpoint'] as const) {
    secureEndpoint(name, metadata[name], loopback)
  }
  for (const name of ['end_session_endpoint', 'revocation_endpoint'] as const) {
    if (metadata[name] !== undefined) secureEndpoint(name, metadata[name], loopback)
  }
  return { issuer: metadata.issuer, metadata }
}

/** An endpoint may have a query (RFC 6749 3.1); else it is held to the rules of any URL. */
const secureEndpoint = (name: string, value: unknown, loopback: boolean) =>
  secureUrl(`issuer: ${name}`, typeof value === 'string' ? value.split('?')[0] : value, loopback)

const parseParams = (given: unknown): Record<string, string> => {
  if (!isRecord(given)) throw wrong('authorizationParams must be an object of strings.')
  for (const [name, value] of Object.entries(given)) {
    if (protocolParams.has(name)) {
      const own = { scope: 'the option scope', resource: 'resource at an entry of apis' }
      throw wrong(
        `authorizationParams must not contain ${name}: ` +
          (name in own ? `use ${own[name as keyof typeof own]}.` : 'tokenward sets it itself.'),
      )
    }
    if (typeof value !== 'string') throw wrong(`authorizationParams: ${name} must be a string.`)
  }
  return given as Record<string, string>
}

/**
 * Checks the options of `createTokenWorker` against the scope of the worker's registration.
 *
 * @throws TokenError `invalid_configuration`, naming the option and the remedy
 */
export const parseOptions = (options: TokenWorkerOptions, scope: string): Config => {
  if (!isRecord(options)) throw wrong('give it an object with issuer, clientId and apis.')
  refuseUnknownNames('the worker', options, optionNames)
  const root = new URL(scope)
  const loopback = isLoopback(root.hostname)
  const { issuer, metadata } = parseIssuer(options.issuer, loopback)
  const { clientId, authPath = 'tokenward/', logoutUrl, trace } = options
  if (typeof clientId !== 'string' || clientId === '') {
    throw wrong('clientId must be the client identifier that the server gave this app.')
  }
  if (typeof authPath !== 'string' || !/^([\w-]+\/)+$/.test(authPath)) {
    throw wrong(`authPath "${authPath}" must be a folder below the scope, like 'tokenward/'.`)
  }
  for (const [name, value] of Object.entries({ logoutUrl, trace })) {
    if (value !== undefined && typeof value !== 'function') {
      throw wrong(`${name} must be a function.`)
    }
  }
  const page = (name: string) => new URL(`${authPath}${name}.html`, root).href
  const redirectUri = options.redirectUri ?? page('callback')
  secureUrl('redirectUri', redirectUri, loopback)
  if (!redirectUri.startsWith(root.href)) {
    throw wrong(
      `redirectUri "${redirectUri}" is outside the worker's scope ${root.href}, so the worker ` +
        'would never see the answer. Register one inside it.',
    )
  }
  const { apis, scopes, resource } = parseApis(options.apis, root, loopback)
  const authUrls = {
    login: page('login'),
    silent: page('silent'),
    callback: redirectUri,
    done: page('done'),
    logout: page('logout'),
  }
  if (new Set(Object.values(authUrls)).size < 5) {
    throw wrong(`redirectUri "${redirectUri}" must not be one of the other auth pages.`)
  }
  return {
    issuer,
    ...(metadata && { metadata }),
    clientId,
    apis,
    scope: [...new Set([...scopeList('scope', options.scope ?? 'openid'), ...scopes])].join(' '),
    ...(resource !== undefined && { resource }),
    authorizationParams: { ...parseParams(options.authorizationParams ?? {}) },
    leeway: seconds('leeway', options.leeway ?? 60, 0, 3600),
    silentLoginTimeout: seconds('silentLoginTimeout', options.silentLoginTimeout ?? 10, 1, 20),
    authUrls,
    root: root.href,
    loopback,
    ...(logoutUrl && { logoutUrl }),
    ...(trace && { trace }),
  }
}
