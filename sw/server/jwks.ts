import { TokenError } from '../../src/shared/errors.js'
import type { Platform } from '../platform.js'
import type { Store } from '../session/store.js'
import type { AuthorizationServerMetadata } from './authorization-server.js'
import { bytesOf, readJwt } from './jwt.js'

/** What a check of signatures needs of the worker. */
export interface SignatureContext {
  store: Pick<Store, 'readKeys' | 'writeKeys'>
  now: Platform['now']
  metadata(): Promise<AuthorizationServerMetadata>
  /** Gets the JSON at this URL, in time and of a bearable size; rejects with a `TokenError`. */
  readKeySet(url: string): Promise<Record<string, unknown>>
}

/** Checks the signatures of ID tokens: {@link jwks} makes one. */
export interface IdTokenSignature {
  /** Called once by each worker. The check rejects with a `TokenError`, or the signature is right. */
  createCheck(context: SignatureContext): (idToken: string) => Promise<void>
}

/** After this long, in ms, the keys are fetched again: the server may have withdrawn one. */
const keysLife = 24 * 3_600_000
/** A token that no key fits has them fetched again, but not so soon after the last time. ms */
const refetchPause = 60_000
/** RFC 7518 3.3 */
const leastModulusBits = 2048

/** How to import the key of an algorithm, and how to verify with it (RFC 7518 3.1, RFC 8037). */
const algorithmOf = (alg: string) => {
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

/** What is wrong with the signature of a JWT, going by these keys; undefined: nothing. */
const findFault = async (jwt: string, keys: readonly JsonWebKey[]): Promise<string | undefined> => {
  const { alg, kid } = readJwt(jwt, 0)
  const algorithm = algorithmOf(String(alg))
  if (!algorithm) return 'its algorithm is none that can be checked'
  const fitting = keys.filter((key: (JsonWebKey & { kid?: string }) | null) => {
    const { kty, crv } = key ?? {}
    return (
      key &&
      kty === algorithm.kty &&
      crv === algorithm.crv &&
      (kid ?? key.kid) === key.kid &&
      (key.alg ?? alg) === alg &&
      (key.use ?? 'sig') === 'sig' &&
      (key.key_ops?.includes('verify') ?? true)
    )
  })
  const [key] = fitting
  if (!key) return 'the server has no such key'
  // Trying one after the other would let a weaker key stand in for the right one.
  if (fitting.length > 1) return 'several keys of the server fit, and it does not say which'
  const { kty, crv, n, e, x, y } = key
  const [head, claims, signature = ''] = jwt.split('.')
  try {
    const imported = await crypto.subtle.importKey(
      'jwk',
      { kty, crv, n, e, x, y },
      algorithm,
      false,
      ['verify'],
    )
    const { modulusLength = leastModulusBits } = imported.algorithm as { modulusLength?: number }
    if (modulusLength < leastModulusBits) return 'the key of the server is too short'
    const signed = new TextEncoder().encode(`${head}.${claims}`)
    const isRight = await crypto.subtle.verify(algorithm, imported, bytesOf(signature), signed)
    return isRight ? undefined : 'its signature is wrong'
  } catch {
    return 'its key or its signature cannot be read'
  }
}

/**
 * For the option `idTokenSignature`: verifies the signature of each ID token with the keys that
 * the server publishes at `jwks_uri` of its metadata (OpenID Connect Core 3.1.3.7, RFC 7517). The
 * worker has to be able to read them: CORS at the server, `connect-src` for the worker script.
 *
 * Algorithms are those that the metadata lists, of RS, PS and ES with 256, 384 or 512 bits, and
 * EdDSA with Ed25519. Keys are kept in IndexedDB for a day, and fetched again, once a minute at
 * most, for a token that none of them fits. Where they cannot be had, signing in fails with
 * `metadata_unreachable`; a wrong signature is `invalid_id_token`. After a refresh either is only a
 * `problem`: the new access token is used, the claims stay as they were.
 *
 * @example
 * createTokenWorker({ issuer, clientId, apis, idTokenSignature: jwks() })
 */
export const jwks = (): IdTokenSignature => ({
  createCheck: ({ store, now, metadata, readKeySet }) => {
    let underWay: Promise<readonly JsonWebKey[]> | undefined

    const fetchKeys = async (): Promise<readonly JsonWebKey[]> => {
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
      // A disk that fails must not keep anybody from signing in.
      await store.writeKeys(keys).catch(() => {})
      return keys
    }

    return async (idToken) => {
      const stored = await store.readKeys().catch(() => undefined)
      const known = Array.isArray(stored?.keys) ? stored : { keys: [], fetchedAt: 0 }
      // A clock that was set back makes an age negative.
      const age = Math.abs(now() - known.fetchedAt)
      let fault = await findFault(idToken, known.keys)
      if (!(age < (fault ? refetchPause : keysLife))) {
        underWay ??= fetchKeys().finally(() => {
          underWay = undefined
        })
        try {
          fault = await findFault(idToken, await underWay)
        } catch (cause) {
          // The server cannot be asked, but this is what it said last.
          if (fault) throw cause
        }
      }
      if (fault) {
        throw new TokenError('invalid_id_token', `The ID token was refused: ${fault}.`)
      }
    }
  },
})
