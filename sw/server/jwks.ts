import { TokenError } from '../../src/shared/errors.js'
import type { Platform } from '../platform.js'
import type { Store } from '../session/store.js'
import { singleFlight } from '../single-flight.js'
import { ageOf } from '../values/age.js'
import { bytesOf } from '../values/base64.js'
import { readJwt } from './jwt.js'
import type { AuthorizationServerMetadata } from './metadata.js'
import { invalidIdToken } from './server-error.js'

/** What a check of signatures needs of the worker. */
export interface SignatureContext {
  store: Pick<Store, 'readKeys' | 'writeKeys'>
  now: Platform['now']
  metadata(): Promise<AuthorizationServerMetadata>
  /** Gets the JSON at this URL, within limits of time and size; rejects with a `TokenError`. */
  readKeySet(url: string): Promise<Record<string, unknown>>
}

/** Checks the signatures of ID tokens: {@link jwks} makes one. */
export interface IdTokenSignature {
  /** Called once by each worker. The check rejects with a `TokenError` unless the signature is right. */
  createCheck(context: SignatureContext): (idToken: string) => Promise<void>
}

/** A key as the server publishes it (RFC 7517 4). */
type PublishedKey = JsonWebKey & { kid?: string }

/** How to import the key of an algorithm, and how to verify with it. */
interface Algorithm {
  kty: string
  crv?: string
  name: string
  namedCurve?: string
  hash?: string
  saltLength?: number
}

/** The worker fetches the keys again after this long, because the server may withdraw one. ms */
const keysLife = 24 * 3_600_000
/**
 * A token that no key fits makes the worker fetch them earlier, at once. If that brings no key that
 * fits, the next token of this kind waits for so long. ms
 */
const refetchPause = 60_000
/** RFC 7518 3.3 */
const leastModulusBits = 2048

/** RFC 7518 3.1, RFC 8037 3.1 */
const algorithmOf = (alg: string): Algorithm | undefined => {
  const [, family, bits] = /^(RS|PS|ES)(256|384|512)$/.exec(alg) ?? []
  const hash = `SHA-${bits}`
  switch (family) {
    case 'RS':
      return { kty: 'RSA', name: 'RSASSA-PKCS1-v1_5', hash }
    case 'PS':
      return { kty: 'RSA', name: 'RSA-PSS', hash, saltLength: Number(bits) / 8 }
    case 'ES': {
      const crv = bits === '512' ? 'P-521' : `P-${bits}`
      return { kty: 'EC', crv, name: 'ECDSA', namedCurve: crv, hash }
    }
    default:
      return /^(EdDSA|Ed25519)$/.test(alg)
        ? { kty: 'OKP', crv: 'Ed25519', name: 'Ed25519' }
        : undefined
  }
}

/** Could this key have signed a JWT with this header? A script may have stored null as a key. */
const isFitting = (
  key: PublishedKey | null,
  { alg, kid }: Record<string, unknown>,
  algorithm: Algorithm,
): key is PublishedKey =>
  key?.kty === algorithm.kty &&
  key.crv === algorithm.crv &&
  (kid ?? key.kid) === key.kid &&
  (key.alg ?? alg) === alg &&
  (key.use ?? 'sig') === 'sig' &&
  // A list, unless somebody has written something else there.
  [key.key_ops ?? 'verify'].flat().includes('verify')

/** What is wrong with a signature that this key should have made; undefined if it is right. */
const verify = async (
  jwt: string,
  { kty, crv, n, e, x, y }: JsonWebKey,
  algorithm: Algorithm,
): Promise<TokenError | undefined> => {
  const [head, claims, signature = ''] = jwt.split('.')
  const plain = { kty, crv, n, e, x, y }
  try {
    const key = await crypto.subtle.importKey('jwk', plain, algorithm, false, ['verify'])
    const { modulusLength = leastModulusBits } = key.algorithm as { modulusLength?: number }
    if (modulusLength < leastModulusBits) {
      return invalidIdToken('the key of the server is too short.')
    }
    const signed = new TextEncoder().encode(`${head}.${claims}`)
    const isRight = await crypto.subtle.verify(algorithm, key, bytesOf(signature), signed)
    return isRight ? undefined : invalidIdToken('its signature is wrong.')
  } catch {
    return invalidIdToken('its key or its signature cannot be read.')
  }
}

/** What is wrong with the signature of a JWT, going by these keys; undefined if it is right. */
const findFault = async (
  jwt: string,
  keys: readonly PublishedKey[],
): Promise<TokenError | undefined> => {
  const header = readJwt(jwt, 0)
  const algorithm = algorithmOf(String(header['alg']))
  if (!algorithm) return invalidIdToken('its algorithm cannot be checked.')
  const [key, second] = keys.filter((each) => isFitting(each, header, algorithm))
  if (!key) return invalidIdToken('the server has no such key.')
  // Trying one after the other would let a weaker key stand in for the right one.
  if (second) {
    return invalidIdToken('several keys of the server fit, and it does not say which.')
  }
  return await verify(jwt, key, algorithm)
}

/**
 * For the option `idTokenSignature`: verifies the signature of each ID token with the keys that
 * the server publishes at `jwks_uri` of its metadata (OpenID Connect Core 3.1.3.7, RFC 7517). The
 * worker has to be able to read them: CORS at the server, `connect-src` for the worker script.
 *
 * Algorithms are those that the metadata lists, of RS, PS and ES with 256, 384 or 512 bits, and
 * EdDSA with Ed25519. The worker keeps the keys in IndexedDB for a day, and fetches them earlier
 * for a token that no key fits: at once, and after a minute again if that was in vain. Without keys,
 * signing in fails with `metadata_unreachable`; a wrong signature is `invalid_id_token`. After a
 * refresh either is only a `problem`: the new access token is used, the claims stay as they were.
 *
 * @example
 * createTokenWorker({ issuer, clientId, apis, idTokenSignature: jwks() })
 */
export const jwks = (): IdTokenSignature => ({
  createCheck: ({ store, now, metadata, readKeySet }) => {
    const fetchKeys = singleFlight(async (idToken: string): Promise<readonly PublishedKey[]> => {
      const { jwks_uri: url } = await metadata()
      if (!url) {
        throw new TokenError(
          'invalid_configuration',
          'idTokenSignature: the metadata of the server has no jwks_uri.',
        )
      }
      const { keys } = await readKeySet(url)
      if (!Array.isArray(keys)) {
        throw new TokenError('metadata_unreachable', `There are no keys at ${url}.`)
      }
      const inVain = (await findFault(idToken, keys)) !== undefined
      // A storage failure must not prevent a sign-in.
      await store.writeKeys(keys, inVain).catch(() => {})
      return keys
    })

    return async (idToken) => {
      const stored = await store.readKeys().catch(() => undefined)
      let fault = await findFault(idToken, stored?.keys ?? [])
      const age = stored ? ageOf(stored.fetchedAt, now()) : Number.POSITIVE_INFINITY
      const isDue = fault && !(stored?.inVain && age < refetchPause)
      if (isDue || age >= keysLife) {
        try {
          fault = await findFault(idToken, await fetchKeys(idToken))
        } catch (cause) {
          // The server does not answer, but these are the keys that it sent last.
          if (fault) throw cause
        }
      }
      if (fault) throw fault
    }
  },
})
