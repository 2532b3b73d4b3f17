import { TokenError } from '../../src/shared/errors.js'
import type { AuthPage } from '../../src/shared/protocol.js'
import { segmentsOf } from '../http/server-path.js'
import type { ApiPart, ApiStrategy, StrategyPlugin } from '../offline/api-part.js'
import type { AuthorizationServerMetadata } from '../server/authorization-server.js'
import type { DpopOption } from '../server/dpop.js'
import type { IdTokenSignature } from '../server/jwks.js'
import type { Trace } from '../trace.js'

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
  /**
   * Elements that may load from the API with the token, if they have the attribute
   * `crossorigin`: any of `image`, `audio`, `video`, `track` and `font`.
   *
   * @default []
   */
  destinations?: ('image' | 'audio' | 'video' | 'track' | 'font')[]
  /**
   * The only methods whose requests get the token, in capitals: `['GET', 'HEAD']` for an API that
   * the app only reads. Default: all.
   */
  methods?: string[]
  /**
   * `error`: a redirect of a request with the token fails it as a network error. By default
   * browsers follow it, and take the token off where it leads to another origin (Chrome 119,
   * Firefox 111, Safari 16.1 and newer).
   *
   * @default 'follow'
   */
  redirect?: 'follow' | 'error'
  /**
   * For an API that says that a token has expired by something else than a 401: gets a copy of each
   * answer, and says whether it is that. The token is then renewed and the request sent once more.
   * Only 401 by default. An error that it throws is told to the pages and means no.
   *
   * @example
   * expired: async (response) =>
   *   response.headers.get('content-type')?.includes('json') === true &&
   *   (await response.json()).errors?.[0]?.extensions?.code === 'UNAUTHENTICATED'
   */
  expired?: (response: Response) => boolean | Promise<boolean>
  /**
   * A strategy of Workbox that answers the GET requests of this API, with `tokenPlugin()` of
   * `tokenward/workbox` among its plugins: for data that are there without network. Streams
   * (`text/event-stream`) and parts of files (`Range`) are not for it.
   */
  strategy?: ApiStrategy
  /**
   * `tokenQueue(name)` of `tokenward/workbox`: keeps what is written to this API without network,
   * and sends it later.
   */
  queue?: ApiPart
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
   * For how many seconds the authorization server still takes a refresh token that it has already
   * replaced (overlap, leeway, grace or reuse interval in its settings), 0 to 3600. While a token
   * whose answer was lost is younger than that, it is simply sent again; afterwards, and by
   * default, a silent login comes first. Never set more than the server grants: a server that is
   * strict about it revokes everything.
   *
   * @default 0
   */
  rotationGrace?: number
  /**
   * Where tokens are kept. `indexeddb`: on the disk, so that the session survives a restart of
   * the worker and of the browser; every script of the origin can read it there. `memory`: with
   * the running worker alone. The browser stops that after half a minute without work, and the
   * next request signs in silently then, which needs an authorization server that hidden frames
   * can reach with its cookies. docs/storage.md says what is on the disk all the same.
   *
   * @default 'indexeddb'
   */
  storage?: 'indexeddb' | 'memory'
  /**
   * `dpop()`: binds the tokens to a key that cannot leave the browser (RFC 9449). The
   * authorization server and every API have to support it.
   */
  dpop?: DpopOption
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
  /**
   * Verifies the signatures of ID tokens: `jwks()`. Without it they are not looked at, because the
   * worker gets them from the token endpoint itself, over TLS (OpenID Connect Core 3.1.3.7).
   */
  idTokenSignature?: IdTokenSignature
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
  /** Beside requests that are for no element. */
  destinations?: readonly string[]
  /** Absent: all. */
  methods?: readonly string[]
  /** `follow`: as the page wants it. */
  redirect?: 'follow' | 'error'
  expired?: ApiOptions['expired']
  /** Each is asked in turn whether it answers a request. */
  parts?: readonly ApiPart[]
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
  /** ms */
  rotationGrace: number
  storage: 'indexeddb' | 'memory'
  dpop?: DpopOption
  /** Absolute URLs of the auth pages, without query. `callback` is the redirect URI. */
  authUrls: Readonly<Record<AuthPage, string>>
  /** The worker's scope. */
  root: string
  idTokenSignature?: IdTokenSignature
  logoutUrl?: TokenWorkerOptions['logoutUrl']
  trace?: Trace
}

const optionNames =
  'issuer clientId apis scope authorizationParams leeway silentLoginTimeout rotationGrace ' +
  'storage dpop authPath redirectUri idTokenSignature logoutUrl trace'
const apiOptionNames =
  'url scope resource unauthenticated destinations methods redirect expired strategy queue'

/** What people who come from other libraries look for. */
const remedies: ReadonlyMap<string, string> = new Map([
  ['audience', 'authorizationParams'],
  ['authority', 'issuer'],
  ['domain', 'issuer'],
  ['clientsecret', 'none: a browser cannot keep a secret, so register a public client'],
])

/** Parameters that belong to the protocol, or have an option of their own. */
export const protocolParams: ReadonlySet<string> = new Set(
  (
    'authorization_details client_id code_challenge code_challenge_method dpop_jkt ' +
    'id_token_hint nonce redirect_uri ' +
    'request request_uri resource response_mode response_type scope state'
  ).split(' '),
)

/** Throws unless `condition` holds. */
function must(condition: unknown, message: string): asserts condition {
  if (!condition) throw new TokenError('invalid_configuration', `createTokenWorker: ${message}`)
}

const isLoopback = (hostname: string): boolean =>
  /^(.+\.)?localhost$|^127(\.\d+){3}$|^\[::1\]$/.test(hostname)

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const refuseUnknownNames = (where: string, given: object, known: string) => {
  const names = known.split(' ')
  for (const name of Object.keys(given)) {
    const plain = name.replaceAll('_', '').toLowerCase()
    const remedy = names.find((each) => each.toLowerCase() === plain) ?? remedies.get(plain)
    must(names.includes(name), `unknown ${where} "${name}". Use ${remedy ?? `one of: ${known}`}.`)
  }
}

const secureUrl = (name: string, value: unknown, root: URL): URL => {
  const url = typeof value === 'string' && URL.canParse(value) && new URL(value)
  must(url, `${name} must be a URL.`)
  const isLocal = isLoopback(url.hostname) && isLoopback(root.hostname)
  must(
    url.protocol === 'https:' || (url.protocol === 'http:' && isLocal),
    `${name} must use https (http only on localhost).`,
  )
  const isBare = !url.username && !url.password && !url.href.includes('#')
  must(isBare, `${name} must have no user and no fragment.`)
  return url
}

/** A URL that is compared, so there must be nothing in it that a comparison would miss. */
const plainUrl = (name: string, value: unknown, root: URL): URL => {
  const url = secureUrl(name, value, root)
  must(!/[?*]/.test(url.href), `${name} must have no query and no wildcard.`)
  return url
}

const either = <T>(name: string, value: unknown, first: T, second: T): T => {
  must(value === first || value === second, `${name} must be '${first}' or '${second}'.`)
  return value as T
}

const seconds = (name: string, value: unknown, least: number, most: number): number => {
  const isInside = typeof value === 'number' && value >= least && value <= most
  must(isInside, `${name} must be a number of seconds from ${least} to ${most}.`)
  return value * 1000
}

const scopeList = (value: unknown): string[] => {
  must(typeof value === 'string', 'scope must be a string, its parts space separated.')
  return value.split(' ').filter(Boolean)
}

const isListOf = (value: unknown, form: RegExp): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === 'string' && form.test(item))

/** The part of a strategy's plugin that connects it with the worker. */
const strategyPart = (name: string, given: unknown): ApiPart | undefined => {
  if (given === undefined) return
  const strategy = given as ApiStrategy
  const plugin = strategy?.plugins?.find((each): each is StrategyPlugin => 'partOf' in each)
  must(
    plugin,
    `${name}: strategy must be one of Workbox, with tokenPlugin() (tokenward/workbox) in plugins.`,
  )
  const behind = strategy.plugins.slice(strategy.plugins.indexOf(plugin) + 1)
  // Whoever changes keys after us may take off whose they are.
  must(
    !behind.some((each) => 'cacheKeyWillBeUsed' in each || 'requestWillFetch' in each),
    `${name}: strategy: tokenPlugin() must come after plugins that change requests or keys.`,
  )
  // Users are told apart by the query of the keys.
  must(
    !strategy.matchOptions?.ignoreSearch,
    `${name}: strategy must not ignore the query (ignoreSearch): users could get each other's data.`,
  )
  return plugin.partOf(strategy)
}

const parseApi = (given: unknown, root: URL) => {
  const api = isRecord(given) ? given : { url: given }
  refuseUnknownNames('option of an API', api, apiOptionNames)
  const { url, scope = '', resource, unauthenticated = 'pass' } = api
  const { destinations = [], methods, redirect = 'follow', expired, queue } = api
  const name = `apis: "${url}"`
  must(
    typeof url === 'string' && /^(https?:\/\/|\/(?![/\\]))/i.test(url),
    `${name} must start with https:// or, on this origin, with one "/".`,
  )
  const absolute = url.startsWith('/') ? `${root.origin}${url}` : url
  const { origin, pathname } = plainUrl(name, absolute, root)
  must(resource === undefined || typeof resource === 'string', `${name}: resource must be a URI.`)
  must(
    isListOf(destinations, /^(image|audio|video|track|font)$/),
    `${name}: destinations must be a list of image, audio, video, track, font.`,
  )
  must(
    methods === undefined || isListOf(methods, /^[A-Z]+$/),
    `${name}: methods must be a list like ['GET', 'HEAD'].`,
  )
  must(
    expired === undefined || typeof expired === 'function',
    `${name}: expired must be a function.`,
  )
  must(queue === undefined || isRecord(queue), `${name}: queue must be tokenQueue('a name').`)
  const rule: ApiRule = {
    origin,
    segments: segmentsOf(pathname),
    unauthenticated: either(`${name}: unauthenticated`, unauthenticated, 'pass', 'fail'),
    destinations,
    methods,
    redirect: either(`${name}: redirect`, redirect, 'follow', 'error'),
    expired: expired as ApiRule['expired'],
    parts: [queue as ApiPart | undefined, strategyPart(name, api['strategy'])].filter(
      (part) => part !== undefined,
    ),
  }
  return { rule, resource, scopes: scopeList(scope) }
}

const parseApis = (given: unknown, root: URL) => {
  must(Array.isArray(given), "apis must be a list, for example ['/api/'].")
  const apis = given.map((api) => parseApi(api, root))
  const keys = apis.map(({ rule }) => [rule.origin, ...rule.segments].join('/'))
  const twice = keys.find((key, index) => keys.indexOf(key) < index)
  must(!twice, `apis names ${twice} twice.`)
  const names = [...new Set(apis.flatMap(({ rule }) => rule.parts ?? []))].flatMap(
    (part) => part.name ?? [],
  )
  must(new Set(names).size === names.length, `apis: two queues have the same name (${names}).`)
  const resources = new Set(apis.flatMap(({ resource }) => resource ?? []))
  must(
    resources.size < 2,
    `apis name more than one resource (${[...resources].join(', ')}), but all share one access ` +
      'token for now.',
  )
  return {
    // The longest path first, so that the first rule that matches is the closest one.
    rules: apis.map(({ rule }) => rule).sort((a, b) => b.segments.length - a.segments.length),
    scopes: apis.flatMap(({ scopes }) => scopes),
    resource: [...resources][0],
  }
}

/**
 * Checks what is used of the server's metadata, whether it was given or discovered.
 *
 * @throws TokenError `invalid_configuration`
 */
export const checkMetadata = (
  metadata: AuthorizationServerMetadata,
  issuer: string,
  root: string,
): AuthorizationServerMetadata => {
  must(
    metadata.issuer === issuer,
    `issuer is "${issuer}", but the server calls itself "${metadata.issuer}". They must be the ` +
      'same to the last slash.',
  )
  const isUsed =
    /^(authorization|token|revocation|end_session|pushed_authorization_request)_endpoint$|^jwks_uri$/
  for (const [name, value] of Object.entries({
    authorization_endpoint: undefined,
    token_endpoint: undefined,
    ...(metadata.require_pushed_authorization_requests && {
      pushed_authorization_request_endpoint: undefined,
    }),
    ...metadata,
  })) {
    if (isUsed.test(name)) secureUrl(`issuer: ${name}`, value, new URL(root))
  }
  must(
    [metadata.code_challenge_methods_supported ?? 'S256'].flat().includes('S256'),
    'issuer: the server does not support PKCE with S256.',
  )
  return metadata
}

const parseParams = (given: unknown): Record<string, string> => {
  must(isRecord(given), 'authorizationParams must be an object.')
  for (const [name, value] of Object.entries(given)) {
    must(
      !protocolParams.has(name),
      `authorizationParams must not contain ${name}: tokenward sets it, or has an option for it.`,
    )
    must(typeof value === 'string', `authorizationParams: ${name} must be a string.`)
  }
  return given as Record<string, string>
}

/**
 * Checks the options of `createTokenWorker` against the scope of the worker's registration.
 *
 * @throws TokenError `invalid_configuration`, naming the option and the remedy
 */
export const parseOptions = (options: TokenWorkerOptions, scope: string): Config => {
  must(isRecord(options), 'give it an object with issuer, clientId and apis.')
  refuseUnknownNames('option', options, optionNames)
  const root = new URL(scope)
  const { clientId, storage = 'indexeddb', authPath = 'tokenward/' } = options
  const { dpop, idTokenSignature, logoutUrl, trace } = options
  const given = options.issuer
  const metadata = isRecord(given) ? (given as AuthorizationServerMetadata) : undefined
  const issuer = (metadata?.issuer ?? given) as string
  plainUrl('issuer', issuer, root)
  if (metadata) checkMetadata(metadata, issuer, scope)
  must(clientId && typeof clientId === 'string', 'clientId must be a string.')
  must(
    /^([\w-]+\/)+$/.test(authPath),
    `authPath "${authPath}" must be a folder below the scope, like 'tokenward/'.`,
  )
  for (const value of [dpop, logoutUrl, trace]) {
    const isFine = value === undefined || typeof value === 'function'
    must(isFine, 'dpop, logoutUrl, trace: not a function.')
  }
  // jwks itself, without brackets, would check nothing.
  must(
    idTokenSignature === undefined || isRecord(idTokenSignature),
    'idTokenSignature must be jwks().',
  )
  const page = (name: string) => new URL(`${authPath}${name}.html`, root).href
  const { redirectUri = page('callback') } = options
  const { href } = plainUrl('redirectUri', redirectUri, root)
  must(
    href.startsWith(root.href),
    `redirectUri "${redirectUri}" must lie inside the worker's scope ${root.href}.`,
  )
  // It is compared with what the browser visits, here and at the server.
  must(href === redirectUri, `redirectUri must be written as browsers do: "${href}".`)
  const authUrls = {
    login: page('login'),
    silent: page('silent'),
    callback: redirectUri,
    done: page('done'),
    logout: page('logout'),
  }
  must(
    new Set(Object.values(authUrls)).size === 5,
    'redirectUri must not be one of the other auth pages.',
  )
  const { rules, scopes, resource } = parseApis(options.apis, root)
  return {
    issuer,
    metadata,
    clientId,
    apis: rules,
    scope: [...new Set([...scopeList(options.scope ?? 'openid'), ...scopes])].join(' '),
    resource,
    authorizationParams: parseParams(options.authorizationParams ?? {}),
    leeway: seconds('leeway', options.leeway ?? 60, 0, 3600),
    silentLoginTimeout: seconds('silentLoginTimeout', options.silentLoginTimeout ?? 10, 1, 20),
    rotationGrace: seconds('rotationGrace', options.rotationGrace ?? 0, 0, 3600),
    storage: either('storage', storage, 'indexeddb', 'memory'),
    dpop,
    authUrls,
    root: root.href,
    idTokenSignature,
    logoutUrl,
    trace,
  }
}
