/** The two grants at the token endpoint: the code of a sign-in, and the refresh token. */
import type * as oauth from 'oauth4webapi'
import { TokenError } from '../../src/shared/errors.js'
import type { Claims } from '../../src/shared/protocol.js'
import { dateOf } from '../http/date.js'
import type { Platform } from '../platform.js'
import type { IssuedTokens } from '../session/active-record.js'
import type { DpopKey, RequestSecrets } from '../session/records.js'
import { codeIn, wantsIdToken } from './authorization-request.js'
import type { Dpop } from './dpop.js'
import type { Exchange } from './exchange.js'
import type { IdTokens } from './id-token.js'
import type { AuthorizationServerMetadata } from './metadata.js'
import {
  assertType,
  type RefreshAnswer,
  readJsonAnswer,
  readRefreshAnswer,
  tokensIn,
} from './token-answer.js'

/** What the grants need of the configuration. */
export interface GrantsConfig {
  clientId: string
  scope: string
  /** The resource indicator of the APIs (RFC 8707). */
  resource?: string
}

/** What a sign-in brings: tokens, and what a validated ID token says. */
export interface SignIn extends IssuedTokens {
  claims: Claims
  subject?: string
}

export interface Grants {
  /**
   * Redeems the answer that arrived at the callback (RFC 6749 4.1.3, RFC 9207,
   * OpenID Connect Core 3.1.3). `asked`: the parameters of the request; `max_age` and an
   * essential `acr` among them bind the ID token.
   *
   * @throws TokenError with the server's own code, or why its answer cannot be trusted
   */
  redeem(answer: {
    params: URLSearchParams
    state: string
    secrets: RequestSecrets
    asked?: Record<string, string>
  }): Promise<SignIn>
  /** The refresh grant (RFC 6749 6). Its ID token is not judged yet: see `readIdToken`. */
  refresh(refreshToken: string, dpopKey?: DpopKey): Promise<RefreshAnswer>
}

export function createGrants({
  config,
  exchange,
  metadata,
  idTokens,
  platform: { now, online },
  dpop,
}: {
  config: GrantsConfig
  exchange: Pick<Exchange, 'postForm'>
  metadata: () => Promise<AuthorizationServerMetadata>
  idTokens: Pick<IdTokens, 'ofSignIn'>
  platform: Pick<Platform, 'now' | 'online'>
  dpop?: Pick<Dpop, 'sendToTokenEndpoint'>
}): Grants {
  const { clientId, resource } = config
  const client: oauth.Client = { client_id: clientId }
  const tokenType = dpop ? 'DPoP' : 'Bearer'

  /** Posts a grant, with a proof if tokens are bound to keys. */
  const post = <T>({
    as,
    grant,
    params,
    dpopKey: key,
    read,
  }: {
    as: AuthorizationServerMetadata
    grant: 'authorization_code' | 'refresh_token'
    params: Record<string, string>
    dpopKey: DpopKey | undefined
    read: (response: Response) => Promise<T>
  }): Promise<T> =>
    exchange.postForm({
      url: as.token_endpoint as string,
      params: {
        ...(resource && { resource }),
        grant_type: grant,
        client_id: clientId,
        ...params,
      },
      read,
      send: dpop && ((url, init) => dpop.sendToTokenEndpoint({ url, init, key, grant })),
    })

  return {
    redeem: async ({ params, state, secrets, asked = {} }) => {
      const { nonce, verifier, redirectUri, dpopKey } = secrets
      const as = await metadata()
      const code = codeIn(params, { as, client, state })
      const issuedAt = now()
      let serverTime = Number.NaN
      const body = await post({
        as,
        grant: 'authorization_code',
        params: { code, redirect_uri: redirectUri, code_verifier: verifier },
        dpopKey,
        read: async (response) => {
          serverTime = dateOf(response)
          return await readJsonAnswer(response, 200)
        },
      })
      assertType(body, tokenType)
      const tokens = await tokensIn(body, { as, client, issuedAt })
      const user = await idTokens.ofSignIn(body['id_token'], {
        as,
        code,
        accessToken: tokens.accessToken,
        nonce: wantsIdToken(config) ? nonce : undefined,
        asked,
        serverTime,
      })
      return { ...tokens, ...user }
    },

    refresh: async (refreshToken, dpopKey) => {
      const as = await metadata().catch((error: TokenError) => error)
      if (as instanceof TokenError) return { kind: 'unavailable', error: as }
      const issuedAt = now()
      const wasOnline = online()
      return await post<RefreshAnswer>({
        as,
        grant: 'refresh_token',
        params: { refresh_token: refreshToken },
        dpopKey,
        read: (response) => readRefreshAnswer(response, { as, client, tokenType, issuedAt, now }),
      }).catch((error: TokenError) => ({
        // Without a network from the start, the request has reached no server.
        kind: wasOnline || error.code !== 'offline' ? 'unknown' : 'unavailable',
        error,
      }))
    },
  }
}
