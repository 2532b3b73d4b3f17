import * as oauth from 'oauth4webapi'
import { TokenError } from '../../src/shared/errors.js'
import type { Claims } from '../../src/shared/protocol.js'
import { parseObject } from '../http/body.js'
import type { Platform } from '../platform.js'
import { bytesOf } from '../values/base64.js'
import { readJwt } from './jwt.js'
import type { AuthorizationServerMetadata } from './metadata.js'
import { invalidIdToken, messageOf } from './server-error.js'
import { toResponse } from './token-answer.js'

/** What the ID token of a refresh says about the session that it came for. */
export type RefreshedIdToken =
  | { kind: 'same'; claims: Claims }
  | { kind: 'other-user' }
  | { kind: 'unusable'; error: TokenError }

/** A valid answer to a code grant, and what its ID token says, if there is one. */
export interface SignInAnswer {
  answer: oauth.TokenEndpointResponse
  claims: Claims
  subject?: string
}

/** Judges ID tokens (OpenID Connect Core 3.1.3.7 and 12.2). */
export interface IdTokens {
  /**
   * The ID token in the answer to a code grant.
   *
   * @throws TokenError if it is not one for this sign-in
   */
  ofSignIn(
    body: Record<string, unknown>,
    request: {
      as: AuthorizationServerMetadata
      code: string
      /** Absent if no ID token was asked for. */
      nonce: string | undefined
      /** `max_age` and an essential `acr` bind the ID token. */
      asked: Record<string, string>
    },
  ): Promise<SignInAnswer>
  /** The ID token of a refresh, judged against the session that it is for. */
  ofRefresh(
    idToken: string,
    session: { subject?: string; accessToken?: string },
  ): Promise<RefreshedIdToken>
}

/** s */
const mostSkew = 24 * 3_600

/** Claims that only serve the protocol; pages may get the others. */
const protocolClaims: readonly string[] = [
  '__proto__',
  'acr',
  'amr',
  'at_hash',
  'aud',
  'auth_time',
  'azp',
  'c_hash',
  'exp',
  'iat',
  'iss',
  'jti',
  'nbf',
  'nonce',
  's_hash',
  'sid',
]

/** What pages may know of the user. Throws if the claims are nested too deep to be cloned. */
const userClaims = (claims: object = {}): Claims =>
  // They could neither be stored nor sent: better to find out here.
  structuredClone(
    Object.fromEntries(Object.entries(claims).filter(([name]) => !protocolClaims.includes(name))),
  )

/** Is this claim half of the hash of `value` (OpenID Connect Core 3.1.3.6)? */
const isHalfHash = async (alg: unknown, value: string, claim: unknown): Promise<boolean> => {
  // The name of EdDSA contains no length; it hashes with SHA-512.
  const [, bits = '512'] = /(256|384)$/.exec(String(alg)) ?? []
  const hash = await crypto.subtle.digest(`SHA-${bits}`, new TextEncoder().encode(value))
  return String(new Uint8Array(hash, 0, hash.byteLength / 2)) === String(bytesOf(String(claim)))
}

/** `max_age` of a request, which binds the ID token. */
const maxAgeOf = ({ max_age: maxAge = '' }: Record<string, string>): number | undefined =>
  /^\d+$/.test(maxAge) ? Number(maxAge) : undefined

/** Did the request insist on another `acr` (OpenID Connect Core 5.5.1.1)? */
const lacksAcr = ({ claims = '' }: Record<string, string>, acr: unknown): boolean => {
  const asked = parseObject(claims)?.['id_token'] as
    | { acr?: { essential?: boolean; value?: string; values?: string[] } }
    | undefined
  const { essential, value, values = value && [value] } = asked?.acr ?? {}
  return essential === true && (acr === undefined || values?.includes(String(acr)) === false)
}

/** A public client can check neither `none` nor a signature that is made with a secret. */
const withoutSecrets = (as: AuthorizationServerMetadata): AuthorizationServerMetadata => {
  const algorithms = as.id_token_signing_alg_values_supported
  const isSafe = (algorithm: string) => !/^(none|HS)/.test(algorithm)
  return { ...as, id_token_signing_alg_values_supported: algorithms?.filter(isSafe) }
}

/** Without the errors of oauth4webapi: they hold the whole answer. */
const asRefusal = (cause: unknown): TokenError =>
  cause instanceof TokenError ? cause : invalidIdToken(messageOf(cause))

export function createIdTokens({
  config: { issuer, clientId },
  metadata,
  now,
  checkSignature,
}: {
  config: { issuer: string; clientId: string }
  metadata: () => Promise<AuthorizationServerMetadata>
  now: Platform['now']
  checkSignature?: (idToken: string) => Promise<void>
}): IdTokens {
  /** How far the server's clock is ahead of ours, in s: the server has just written `iat`. */
  const skewOf = (idToken: unknown): number => {
    const { iat } = readJwt(String(idToken), 1)
    return typeof iat === 'number' ? Math.floor(iat - now() / 1000) : 0
  }

  const client = (skew: number): oauth.Client => ({
    client_id: clientId,
    [oauth.clockSkew]: skew,
  })

  /** Checks what oauth4webapi leaves: azp beside one aud, an empty sub, hashes, the signature. */
  const checkRest = async (answer: oauth.TokenEndpointResponse, code?: string) => {
    const claims = oauth.getValidatedIdTokenClaims(answer)
    if (!claims) return
    const idToken = answer.id_token as string
    const { alg } = readJwt(idToken, 0)
    let wrong = claims.sub ? '' : 'sub'
    if ((claims.azp ?? clientId) !== clientId) wrong = 'azp'
    for (const [name, value] of Object.entries({ at_hash: answer.access_token, c_hash: code })) {
      const claim = claims[name]
      if (value && claim !== undefined && !(await isHalfHash(alg, value, claim))) wrong = name
    }
    if (wrong) throw invalidIdToken(`its ${wrong} is not the right one.`)
    await checkSignature?.(idToken)
    return claims
  }

  return {
    ofSignIn: async (body, { as, code, nonce, asked }) => {
      const skew = skewOf(body['id_token'])
      if (Math.abs(skew) > mostSkew) {
        throw new TokenError('clock', "This device's clock is more than a day off. Set it right.")
      }
      try {
        const answer = await oauth.processAuthorizationCodeResponse(
          withoutSecrets(as),
          client(skew),
          toResponse(body),
          { maxAge: maxAgeOf(asked), expectedNonce: nonce, requireIdToken: nonce !== undefined },
        )
        const claims = await checkRest(answer, code)
        if (lacksAcr(asked, claims?.acr)) {
          throw invalidIdToken('its acr is not one that was asked for.')
        }
        return { answer, claims: userClaims(claims), subject: claims?.sub }
      } catch (cause) {
        throw asRefusal(cause)
      }
    },

    ofRefresh: async (idToken, { subject, accessToken }) => {
      const { iss = issuer, sub = subject, aud = clientId } = readJwt(idToken, 1)
      // A claim that is missing or unreadable names no other user: it is refused below.
      const isOurs = iss === issuer && [aud].flat().includes(clientId)
      if (!isOurs || (subject ?? sub) !== sub) return { kind: 'other-user' }
      try {
        const answer = await oauth.processRefreshTokenResponse(
          withoutSecrets(await metadata()),
          client(skewOf(idToken)),
          Response.json({ access_token: accessToken, token_type: 'bearer', id_token: idToken }),
        )
        return { kind: 'same', claims: userClaims(await checkRest(answer)) }
      } catch (cause) {
        return { kind: 'unusable', error: asRefusal(cause) }
      }
    },
  }
}
