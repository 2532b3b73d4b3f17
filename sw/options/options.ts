/** What an app writes. */
import type { ApiPart, ApiStrategy } from '../offline/api-part.js'
import type { LogoutContext } from '../server/authorization-server.js'
import type { DpopOption } from '../server/dpop.js'
import type { IdTokenSignature } from '../server/jwks.js'
import type { AuthorizationServerMetadata } from '../server/metadata.js'
import type { Trace } from '../trace.js'

export type { LogoutContext } from '../server/authorization-server.js'

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
   * For an API that says by another answer than a 401 that a token has expired: gets a copy of each
   * answer, and says whether it does. The token is then renewed and the request sent once more.
   * Only 401 by default. If it throws, pages get a `problem` event and the answer counts as not
   * expired.
   *
   * @example
   * expired: async (response) =>
   *   response.headers.get('content-type')?.includes('json') === true &&
   *   (await response.json()).errors?.[0]?.extensions?.code === 'UNAUTHENTICATED'
   */
  expired?: (response: Response) => boolean | Promise<boolean>
  /**
   * A strategy of Workbox that answers the GET requests of this API, with `tokenPlugin()` of
   * `tokenward/workbox` among its plugins: for data that is there without network. Streams
   * (`text/event-stream`) and parts of files (`Range`) are not for it.
   */
  strategy?: ApiStrategy
  /**
   * `tokenQueue(name)` of `tokenward/workbox`: keeps what the app writes to this API without
   * network, and sends it later.
   */
  queue?: ApiPart
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
   * Scopes to ask for, space separated. Which one brings a refresh token depends on the server: see
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
   * replaced (overlap, leeway, grace or reuse interval in its settings), 0 to 3600. Within that
   * time the worker sends a token whose answer was lost again; afterwards, and by default, a silent
   * login comes first. Never set more than the server grants: a strict server revokes everything.
   *
   * @default 0
   */
  rotationGrace?: number
  /**
   * Where tokens are kept. `indexeddb`: on the disk, so that the session survives a restart of
   * the worker and of the browser; every script of the origin can read it there. `memory`: in the
   * running worker alone. The browser stops the worker after half a minute without work, and the
   * next request then signs in silently, which needs an authorization server that hidden frames
   * reach with its cookies. docs/storage.md says what is on the disk in either case.
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
   * The redirect URI, if one is registered already: an absolute URL inside the worker's scope,
   * without query and fragment.
   *
   * @default '<scope>tokenward/callback.html'
   */
  redirectUri?: string
  /**
   * Verifies the signatures of ID tokens: `jwks()`. By default the worker does not verify them,
   * because it gets them from the token endpoint itself, over TLS (OpenID Connect Core 3.1.3.7).
   */
  idTokenSignature?: IdTokenSignature
  /** Builds the logout URL for servers whose metadata has no `end_session_endpoint`. */
  logoutUrl?: (context: LogoutContext) => string
  /** Called with each step of the worker's work; it carries no secret. For demos and debugging. */
  trace?: Trace
}
