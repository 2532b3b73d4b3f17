import type { TokenError } from '../../src/shared/errors.js'
import type { AuthPage } from '../../src/shared/protocol.js'
import { dateOf } from '../http/date.js'
import type { Platform } from '../platform.js'
import { hintOf } from '../session/active-record.js'
import type { RequestSecrets } from '../session/records.js'
import type { Store } from '../session/store.js'
import { randomId } from '../values/random-id.js'
import {
  type AuthorizationRequest,
  type AuthorizationRequestConfig,
  buildAuthorizationUrl,
} from './authorization-request.js'
import type { Dpop } from './dpop.js'
import { createExchange, type Exchange } from './exchange.js'
import { createGrants, type Grants } from './grants.js'
import { createIdTokens, type IdTokensConfig, type RefreshedIdToken } from './id-token.js'
import type { IdTokenSignature } from './jwks.js'
import { readJwt } from './jwt.js'
import { createMetadataSource, type MetadataConfig, type MetadataSource } from './metadata.js'

export type { SignIn } from './grants.js'

/** What the option `logoutUrl` gets to build a URL. */
export interface LogoutContext {
  clientId: string
  /** `<scope>tokenward/logout.html`: register it as a post-logout redirect URI. */
  postLogoutRedirectUri: string
}

/** What the authorization server's part needs of the configuration. */
export interface ServerConfig extends MetadataConfig, AuthorizationRequestConfig, IdTokensConfig {
  /** Absolute URLs of the auth pages, without query. `callback` is the redirect URI. */
  authUrls: Readonly<Record<AuthPage, string>>
  idTokenSignature?: IdTokenSignature
  logoutUrl?: (context: LogoutContext) => string
}

/** Everything that the worker asks of the authorization server. */
export interface AuthorizationServer extends Grants {
  /** The endpoints that never get a token (see `endpointOf`); empty until they are known. */
  protocolEndpoints(): readonly string[]
  /** Takes the endpoints from the stored metadata, however old, without asking the server. */
  recallEndpoints(): Promise<void>
  /** Secrets of one authorization request; they never leave the worker. */
  newSecrets(): RequestSecrets
  /** The URL of an authorization request; the server has it by then if it wants requests pushed. */
  authorizationUrl(request: AuthorizationRequest): Promise<string>
  /** Judges the ID token of a refresh against the session it is for (OIDC Core 12.2). */
  readIdToken(
    idToken: string,
    session: { subject?: string; accessToken?: string; idToken?: string },
  ): Promise<RefreshedIdToken>
  /** Revokes a refresh token (RFC 7009) if the server can be reached and supports it. */
  revoke(refreshToken: string): Promise<void>
  /** Would a navigation to the server get there? */
  isReachable(): Promise<boolean>
  /**
   * The logout request (OpenID Connect RP-Initiated Logout 1.0, 2); undefined if neither the server
   * nor the configuration has a URL for it.
   */
  logoutUrl(state: string, idToken?: string): Promise<string | undefined>
  /**
   * The ID token, as a hint for a logout; undefined if the server no longer publishes the key that
   * signed it, since many answer with an error page then.
   */
  checkHint(idToken: string | undefined): Promise<string | undefined>
}

/** Signing out waits no longer than this for a server. ms */
const goodbyeLimit = 5_000

/** The URL of a logout request; without a hint, `client_id` says enough. */
const endSessionUrl = (
  endpoint: string,
  {
    clientId,
    postLogoutRedirectUri,
    state,
    idToken,
  }: LogoutContext & { state: string; idToken: string },
): string => {
  const url = new URL(endpoint)
  const params = url.searchParams
  params.set('client_id', clientId)
  params.set('post_logout_redirect_uri', postLogoutRedirectUri)
  params.set('state', state)
  const hint = hintOf({ idToken })
  if (hint) params.set('id_token_hint', hint)
  return url.href
}

/** Does the server still publish the key with this name, as far as can be known? */
const isPublished = async (
  kid: unknown,
  { metadata, exchange }: { metadata: MetadataSource['get']; exchange: Exchange },
): Promise<boolean> => {
  try {
    const { jwks_uri: url } = await metadata()
    if (!url) return true
    const { keys } = await exchange.readDocument({ what: 'keys', url, limit: goodbyeLimit })
    return !Array.isArray(keys) || keys.some((key) => key?.kid === kid)
  } catch {
    return true
  }
}

/** An answer of the app's own origin always shows its `Date`. */
const readSiteTime = (url: string, exchange: Exchange): Promise<number> =>
  exchange
    .send({ url, init: { method: 'HEAD' }, limit: goodbyeLimit, read: async (to) => dateOf(to) })
    .catch(() => Number.NaN)

/** Creates the worker's side of the conversation with the authorization server. */
export function createAuthorizationServer({
  config,
  store,
  platform,
  reportProblem,
  dpop,
}: {
  config: ServerConfig
  store: Pick<Store, 'read' | 'readMetadata' | 'writeMetadata' | 'readKeys' | 'writeKeys'>
  platform: Pick<Platform, 'fetch' | 'now' | 'wait' | 'online'>
  reportProblem?: (error: TokenError) => Promise<unknown>
  dpop?: Pick<Dpop, 'sendToTokenEndpoint'>
}): AuthorizationServer {
  const { issuer, clientId, authUrls } = config
  const { now } = platform
  const exchange = createExchange({ issuer, platform })
  const source = createMetadataSource({ config, store, exchange, now, reportProblem })
  const metadata = source.get
  const siteTime = () => readSiteTime(authUrls.done, exchange)
  const checkSignature = config.idTokenSignature?.createCheck({
    store,
    now,
    metadata,
    readKeySet: (url) => exchange.readDocument({ what: 'keys', url }),
  })
  const idTokens = createIdTokens({ config, metadata, now, siteTime, checkSignature })
  const grants = createGrants({ config, exchange, metadata, idTokens, platform, dpop })

  return {
    protocolEndpoints: source.endpoints,
    recallEndpoints: source.recallEndpoints,
    ...grants,
    readIdToken: idTokens.ofRefresh,

    newSecrets: () => ({
      nonce: randomId(),
      verifier: randomId(),
      redirectUri: authUrls.callback,
    }),

    authorizationUrl: async (request) => {
      // Without a user who waits, nothing is worth a further request.
      const isSilent = request.params['prompt'] === 'none'
      const as = await (isSilent ? metadata : source.getFresh)()
      return await buildAuthorizationUrl({ config, as, exchange, request })
    },

    revoke: async (refreshToken) => {
      try {
        const { revocation_endpoint: url } = await source.getFresh()
        if (!url) return
        await exchange.postForm({
          url,
          params: {
            token: refreshToken,
            token_type_hint: 'refresh_token',
            client_id: clientId,
          },
          headers: {},
          limit: goodbyeLimit,
          read: async () => {},
        })
      } catch {
        // The worker forgets the session anyway; the token ends with its own lifetime.
      }
    },

    isReachable: () =>
      exchange
        .send({
          url: issuer,
          // Without CORS: any answer will do.
          init: { method: 'HEAD', mode: 'no-cors', redirect: 'follow' },
          limit: goodbyeLimit,
          unreachable: 'offline',
          read: async () => true,
        })
        .catch(() => false),

    checkHint: async (idToken) => {
      const { kid } = readJwt(idToken ?? '', 0)
      if (!kid || config.logoutUrl) return idToken
      return (await isPublished(kid, { metadata, exchange })) ? idToken : undefined
    },

    logoutUrl: async (state, idToken = '') => {
      const context: LogoutContext = { clientId, postLogoutRedirectUri: authUrls.logout }
      // The app knows its server better than the metadata do.
      if (config.logoutUrl) return config.logoutUrl(context)
      const { end_session_endpoint: endpoint } = await source.getFresh()
      return endpoint && endSessionUrl(endpoint, { ...context, state, idToken })
    },
  }
}
