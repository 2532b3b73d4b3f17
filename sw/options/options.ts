import type { ApiPart, ApiStrategy } from '../offline/api-part.js'
import type { LogoutContext } from '../server/authorization-server.js'
import type { DpopOption } from '../server/dpop.js'
import type { IdTokenSignature } from '../server/jwks.js'
import type { AuthorizationServerMetadata } from '../server/metadata.js'
import type { Trace } from '../trace.js'

export type { LogoutContext }

/** An API whose requests get the access token. */
export interface ApiOptions {
  /**
   * Origin and path: an absolute URL, or a path on the app's own origin. A request belongs to the
   * API if its origin is the same and its path starts with the same segments: `/api/` covers
   * `/api/orders` but not `/apiary`.
   */
  url: string
  /** Scopes this API needs, space separated; the worker adds them to the option `scope`. */
  scope?: string
  /**
   * The resource indicator of this API (RFC 8707). All APIs share one access token for now, so they
   * can name only one resource.
   */
  resource?: string
  /**
   * Paths below `url` whose requests get no token, and go out as if there were no worker:
   * `['public/']` leaves `/api/public/config` out of `/api/`. For what everybody may read: it is
   * there while no token can be had, too.
   *
   * @default []
   */
  except?: string[]
  /**
   * What happens to a request while the user is signed out. `pass`: it goes out without a token,
   * and the API gives its own answer. `fail`: it fails as a network error.
   *
   * @default 'pass'
   */
  unauthenticated?: 'pass' | 'fail'
  /**
   * Elements that may load from the API with the token: any of `image`, `audio`, `video`, `track`
   * and `font`. They need the attribute `crossorigin`.
   *
   * @default []
   */
  destinations?: ('image' | 'audio' | 'video' | 'track' | 'font')[]
  /**
   * The only methods whose requests get the token, in capitals: `['GET', 'HEAD']` for an API that
   * the app only reads. By default all do.
   */
  methods?: string[]
  /**
   * What happens if the API redirects a request with the token. `error`: the request fails as a
   * network error. `follow`: the browser follows, and removes the token if the redirect leads to
   * another origin (Chrome 119, Firefox 111, Safari 16.1 and newer).
   *
   * @default 'follow'
   */
  redirect?: 'follow' | 'error'
  /**
   * For an API that does not answer 401 to an expired token: gets a copy of each other answer, but
   * of no event stream, and returns true if the answer means "expired". The worker then renews the
   * token and sends the request once more. What it has not read by then is dropped. If it throws,
   * pages get a `problem` event and the answer counts as not expired. By default only a 401 means
   * "expired".
   *
   * @example
   * expired: async (response) =>
   *   response.headers.get('content-type')?.includes('json') === true &&
   *   (await response.json()).errors?.[0]?.extensions?.code === 'UNAUTHENTICATED'
   */
  expired?: (response: Response) => boolean | Promise<boolean>
  /**
   * A Workbox strategy that answers the GET requests of this API, so that its data are available
   * offline. Its plugins must include `tokenPlugin()` of `tokenward/workbox`. It does not get
   * streams (`text/event-stream`) and parts of files (`Range`).
   */
  strategy?: ApiStrategy
  /**
   * `tokenQueue(name)` of `tokenward/workbox`: keeps the writes to this API that fail offline, and
   * sends them later.
   */
  queue?: ApiPart
}

/** All options of a token worker. Only the worker script can set them. */
export interface TokenWorkerOptions {
  /**
   * The issuer identifier, exactly as the server's metadata and ID tokens spell it (mind the
   * trailing slash); the worker discovers the metadata (OpenID Connect Discovery 1.0, RFC 8414).
   * For servers without usable discovery: the metadata itself, as an object.
   */
  issuer: string | AuthorizationServerMetadata
  /** The client identifier of this app, registered as a public client (no secret). */
  clientId: string
  /** The APIs whose requests get the access token. */
  apis: (string | ApiOptions)[]
  /**
   * Scopes to ask for, space separated. Which of them brings a refresh token depends on the server:
   * see the server table in the README.
   *
   * @default 'openid'
   */
  scope?: string
  /**
   * More parameters for every authorization request, silent logins included (there with
   * `prompt=none`): `audience`, `prompt`, `organization` and so on. Those of one sign-in go to
   * `login({ params })`.
   *
   * @default {}
   */
  authorizationParams?: Record<string, string>
  /**
   * How many seconds before it expires the worker renews an access token, 0 to 3600. The worker
   * never uses more than half the lifetime of the token.
   *
   * @default 60
   */
  leeway?: number
  /**
   * `false`: no hidden frame is ever tried, for servers that know no `prompt=none` (Amazon Cognito)
   * or whose cookies never reach a frame. Where a refresh token is over, pages get `login-required`
   * at once instead of after the frame's time limit, the session stays, and `checkSession()`
   * rejects with `silent_login_off`.
   *
   * @default true
   */
  silentLogin?: boolean
  /**
   * How many seconds a silent login in a hidden frame may take, 1 to 20.
   *
   * @default 10
   */
  silentLoginTimeout?: number
  /**
   * For how many seconds the authorization server still accepts a refresh token that it has
   * replaced (overlap, leeway, grace or reuse interval in its settings), 0 to 3600. If the answer
   * to a refresh is lost, the worker sends the same token again within this time; later, and by
   * default, it tries a silent login first. Never set more than the server grants: a strict server
   * revokes the whole grant when it gets a replaced token.
   *
   * @default 0
   */
  rotationGrace?: number
  /**
   * Where the worker keeps tokens. `indexeddb`: on the disk, so that the session survives a restart
   * of the worker and of the browser; every script of the origin can read them there. `memory`: only
   * in the running worker. The browser stops the worker after half a minute without work, and the
   * next request then signs in silently. For that, the cookies of the authorization server must
   * reach a hidden frame. docs/storage.md lists what is on the disk even then.
   *
   * @default 'indexeddb'
   */
  storage?: 'indexeddb' | 'memory'
  /**
   * `dpop()`: binds the tokens to a key that cannot leave the browser (RFC 9449). The
   * authorization server and every API must support it.
   */
  dpop?: DpopOption
  /**
   * The folder of the five auth pages, relative to the worker's scope.
   *
   * @default 'tokenward/'
   */
  authPath?: string
  /**
   * The redirect URI, if another one than the default is registered: an absolute URL inside the
   * worker's scope, without query and fragment.
   *
   * @default '<scope>tokenward/callback.html'
   */
  redirectUri?: string
  /**
   * `jwks()`: verifies the signatures of ID tokens. By default the worker does not, because it gets
   * ID tokens from the token endpoint itself, over TLS (OpenID Connect Core 3.1.3.7).
   */
  idTokenSignature?: IdTokenSignature
  /**
   * Audiences that ID tokens of this server name beside `clientId`, and that are trusted, for
   * servers that then send no `azp`: `['https://identity.oraclecloud.com/']` for Oracle IDCS. An ID
   * token for anybody else as well is refused.
   *
   * @default []
   */
  trustedAudiences?: string[]
  /**
   * Builds the logout URL, for servers whose metadata has no `end_session_endpoint`, or one that
   * wants other parameters than OpenID Connect's (`logout_uri` at Cognito).
   */
  logoutUrl?: (context: LogoutContext) => string
  /** Gets each step of the worker's work, without secrets. For demos and debugging. */
  trace?: Trace
}
