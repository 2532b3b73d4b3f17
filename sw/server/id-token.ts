import * as oauth from 'oauth4webapi'
import { TokenError } from '../../src/shared/errors.js'
import type { Claims } from '../../src/shared/protocol.js'
import { parseObject } from '../http/body.js'
import type { Platform } from '../platform.js'
import { base64url, bytesOf } from '../values/base64.js'
import { readJwt } from './jwt.js'
import type { AuthorizationServerMetadata } from './metadata.js'
import { invalidIdToken, messageOf } from './server-error.js'

declare const DEVELOPMENT: boolean

/** What judging ID tokens needs of the configuration. */
export interface IdTokensConfig {
  issuer: string
  clientId: string
  /** Audiences that an ID token may have beside the client. */
  trustedAudiences?: readonly string[]
}

/** What the ID token of a refresh says about the session that it came for. */
export type RefreshedIdToken =
  | { kind: 'same'; claims: Claims }
  | { kind: 'other-user' }
  | { kind: 'unusable'; error: TokenError }

/** What a valid ID token says of the user; nothing if none came and none was asked for. */
export interface SignedInUser {
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
    idToken: unknown,
    request: {
      as: AuthorizationServerMetadata
      code: string
      accessToken: string
      /** Absent if no ID token was asked for. */
      nonce: string | undefined
      /** `max_age` and an essential `acr` bind the ID token. */
      asked: Record<string, string>
      /** When the server answered, by its own clock, ms since 1970; NaN if it did not say. */
      serverTime: number
    },
  ): Promise<SignedInUser>
  /** The ID token of a refresh, judged against the session that it is for. */
  ofRefresh(
    idToken: string,
    session: { subject?: string; accessToken?: string; idToken?: string },
  ): Promise<RefreshedIdToken>
}

interface Clocks {
  now: Platform['now']
  /** The time at the app's own site, ms since 1970; NaN if it cannot be had. */
  siteTime: () => Promise<number>
}

/** A difference of clocks up to this is taken from an ID token itself. s */
const mostOwnSkew = 600
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

/** What to do about it, where that is known: for the development build. */
const explain = (fault: string): string => {
  if (fault.includes('"alg"')) {
    return `${fault}. The metadata must list it in id_token_signing_alg_values_supported.`
  }
  return fault.includes('untrusted audiences')
    ? `${fault}. If they are to be trusted, name them in the option trustedAudiences.`
    : fault
}

/** Without the errors of oauth4webapi: they hold the whole answer. */
const asRefusal = (cause: unknown): TokenError =>
  cause instanceof TokenError
    ? cause
    : invalidIdToken(DEVELOPMENT ? explain(messageOf(cause)) : messageOf(cause))

/** The ID token without the audiences that the app trusts beside itself. */
const withoutTrusted = (idToken: unknown, trusted: readonly string[] | undefined): unknown => {
  const [head, , signature] = String(idToken).split('.')
  const claims = readJwt(String(idToken), 1)
  const { aud, azp } = claims
  if (!trusted || !Array.isArray(aud) || azp !== undefined) return idToken
  const rest = { ...claims, aud: aud.filter((each) => !trusted.includes(each)) }
  return [head, base64url(new TextEncoder().encode(JSON.stringify(rest))), signature].join('.')
}

/**
 * How far the server's clock is ahead of ours, in s: the server has just written `iat`. That is
 * its own word, which makes any `exp` right, so beyond minutes a second clock has to agree.
 */
const createSkew =
  ({ now, siteTime }: Clocks) =>
  async (idToken: unknown, serverTime = Number.NaN): Promise<number> => {
    const { iat } = readJwt(String(idToken), 1)
    if (typeof iat !== 'number') return 0
    const skew = Math.floor(iat - now() / 1000)
    if (Math.abs(skew) <= mostOwnSkew) return skew
    // Without one, it is the device that is wrong: that is common, and an old ID token is not.
    const time = serverTime || (await siteTime())
    if (Math.abs(iat - time / 1000) > mostOwnSkew) {
      throw invalidIdToken('its iat is not the present time, by a clock that is not this device’s.')
    }
    return skew
  }

/** The answer that oauth4webapi judges an ID token in. Nothing else in it can be wrong. */
const answerWith = (idToken: unknown, accessToken: string | undefined): Response =>
  Response.json({ access_token: accessToken, token_type: 'bearer', id_token: idToken })

export function createIdTokens({
  config: { issuer, clientId, trustedAudiences },
  metadata,
  now,
  siteTime,
  checkSignature,
}: Clocks & {
  config: IdTokensConfig
  metadata: (anew?: boolean) => Promise<AuthorizationServerMetadata>
  checkSignature?: (idToken: string) => Promise<void>
}): IdTokens {
  const skewOf = createSkew({ now, siteTime })

  const client = (skew: number): oauth.Client => ({
    client_id: clientId,
    [oauth.clockSkew]: skew,
  })

  /** The metadata to judge an ID token by: the server may sign with something new. */
  const metadataFor = async (idToken: unknown, as: AuthorizationServerMetadata) => {
    const { alg } = readJwt(String(idToken), 0)
    const { id_token_signing_alg_values_supported: algorithms } = as
    const isNew = alg && algorithms && !algorithms.includes(alg as string)
    return withoutSecrets(isNew ? await metadata(true).catch(() => as) : as)
  }

  /** Checks what oauth4webapi leaves: azp beside one aud, an empty sub, hashes, the signature. */
  const checkRest = async (answer: oauth.TokenEndpointResponse, idToken: string, code?: string) => {
    const claims = oauth.getValidatedIdTokenClaims(answer)
    if (!claims) return
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
    ofSignIn: async (idToken, { as, code, accessToken, nonce, asked, serverTime }) => {
      const skew = await skewOf(idToken, serverTime)
      if (Math.abs(skew) > mostSkew) {
        throw new TokenError('clock', "This device's clock is more than a day off. Set it right.")
      }
      try {
        const answer = await oauth.processAuthorizationCodeResponse(
          await metadataFor(idToken, as),
          client(skew),
          answerWith(withoutTrusted(idToken, trustedAudiences) || undefined, accessToken),
          { maxAge: maxAgeOf(asked), expectedNonce: nonce, requireIdToken: nonce !== undefined },
        )
        const claims = await checkRest(answer, idToken as string, code)
        if (lacksAcr(asked, claims?.acr)) {
          throw invalidIdToken('its acr is not one that was asked for.')
        }
        return { claims: userClaims(claims), subject: claims?.sub }
      } catch (cause) {
        throw asRefusal(cause)
      }
    },

    ofRefresh: async (idToken, { subject, accessToken, idToken: known }) => {
      // Judged already. Some servers send the first one again and again, and it grows old.
      if (idToken === known) return { kind: 'same', claims: {} }
      const { iss = issuer, sub = subject, aud = clientId } = readJwt(idToken, 1)
      // A claim that is missing or unreadable names no other user: it is refused below.
      const isOurs = iss === issuer && [aud].flat().includes(clientId)
      if (!isOurs || (subject ?? sub) !== sub) return { kind: 'other-user' }
      try {
        const answer = await oauth.processRefreshTokenResponse(
          await metadataFor(idToken, await metadata()),
          client(await skewOf(idToken)),
          answerWith(withoutTrusted(idToken, trustedAudiences), accessToken),
        )
        return { kind: 'same', claims: userClaims(await checkRest(answer, idToken)) }
      } catch (cause) {
        return { kind: 'unusable', error: asRefusal(cause) }
      }
    },
  }
}
