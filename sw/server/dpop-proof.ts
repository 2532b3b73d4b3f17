import { TokenError } from '../../src/shared/errors.js'
import { activeOf, type DpopKey, type SessionRecord } from '../session/records.js'
import type { Store } from '../session/store.js'
import { base64url } from '../values/base64.js'
import { randomId } from '../values/random-id.js'
import { sha256 } from '../values/sha256.js'
import type { DpopClocks, DpopNonces } from './dpop-nonces.js'

/** What a proof says (RFC 9449 4.2). */
export interface ProofTarget {
  url: URL
  method: string
  /** Absent at the token endpoint. */
  accessToken?: string
}

/** The keys that tokens are bound to, and the proofs that they sign. */
export interface DpopKeys {
  /** Is the private half of this key here? */
  canUse(key: DpopKey | undefined): boolean
  /** The key for a sign-in: that of the session in `record`, or a new one. */
  keyFor(record: SessionRecord | undefined): Promise<DpopKey>
  /** Forgets a key that the browser cannot store. */
  drop(jkt: string): void
  /** A proof for one request; undefined if the key is gone, and its tokens with it. */
  sign(key: DpopKey | undefined, target: ProofTarget): Promise<string | undefined>
}

const ecdsa = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

const newPair = () => crypto.subtle.generateKey(ecdsa, false, ['sign', 'verify'])

const newKey = async (): Promise<Required<DpopKey>> => {
  const { privateKey, publicKey } = await newPair()
  const { crv, kty, x, y } = await crypto.subtle.exportKey('jwk', publicKey)
  // In the order of the thumbprint (RFC 7638 3.2).
  const jwk = { crv, kty, x, y } as DpopKey['jwk']
  return { jkt: base64url(await sha256(JSON.stringify(jwk))), jwk, privateKey }
}

/** A JWT that this key signs (RFC 7515 3.1, RFC 7518 3.4). */
const signedJwt = async (
  header: object,
  claims: object,
  privateKey: CryptoKey,
): Promise<string> => {
  const utf8 = new TextEncoder()
  const parts = [header, claims].map((part) => base64url(utf8.encode(JSON.stringify(part))))
  const input = parts.join('.')
  return `${input}.${base64url(await crypto.subtle.sign(ecdsa, privateKey, utf8.encode(input)))}`
}

export function createDpopKeys({
  store,
  nonces,
  clocks,
  reportProblem,
}: {
  store: Pick<Store, 'read' | 'writeDpop'>
  nonces: Pick<DpopNonces, 'load' | 'of' | 'state'>
  clocks: Pick<DpopClocks, 'secondsAt'>
  reportProblem: (error: TokenError) => void
}): DpopKeys {
  /** Keys that the browser cannot store. They end with this worker. */
  const held = new Map<string, CryptoKey>()
  /** Keys that the browser does not sign with. */
  const broken = new Set<string>()
  let storable: Promise<boolean> | undefined

  const canUse = (key: DpopKey | undefined): boolean =>
    // A script may have stored null.
    !!key && !broken.has(key.jkt) && (key.privateKey?.extractable === false || held.has(key.jkt))

  /** Stores a key and removes it: some browsers, in some modes, refuse to store keys at all. */
  const tryToStore = async (): Promise<boolean> => {
    try {
      await nonces.load()
      await store.writeDpop({ ...nonces.state(), probe: (await newPair()).privateKey })
      await store.writeDpop(nonces.state())
      return true
    } catch (error) {
      // If nothing at all can be stored, the sign-in says so.
      return ((error as TokenError).cause as Error | undefined)?.name !== 'DataCloneError'
    }
  }

  const privateHalf = async ({ jkt, privateKey }: DpopKey): Promise<CryptoKey | undefined> => {
    const own = privateKey ?? held.get(jkt)
    if (own) return own
    const dpopKey = activeOf(await store.read())?.dpopKey
    return dpopKey?.jkt === jkt ? dpopKey.privateKey : undefined
  }

  return {
    canUse,

    keyFor: async (record) => {
      const current = activeOf(record)?.dpopKey
      if (current && canUse(current)) return { jkt: current.jkt, jwk: current.jwk }
      const key = await newKey()
      storable ??= tryToStore()
      if (await storable) return key
      const { jkt, jwk, privateKey } = key
      held.set(jkt, privateKey)
      reportProblem(
        new TokenError(
          'storage_failed',
          'This browser does not store keys, so the tokens are lost whenever it stops the worker.',
        ),
      )
      return { jkt, jwk }
    },

    drop: (jkt) => void held.delete(jkt),

    sign: async (key, { url: { origin, pathname }, method, accessToken }) => {
      if (!key) return
      // Outside of what follows: a storage failure says nothing about the key.
      const privateKey = await privateHalf(key)
      try {
        const header = { typ: 'dpop+jwt', alg: 'ES256', jwk: key.jwk }
        const claims = {
          jti: randomId(),
          htm: method,
          htu: origin + pathname,
          iat: clocks.secondsAt(origin),
          ath: accessToken && base64url(await sha256(accessToken)),
          nonce: nonces.of(origin),
        }
        return await signedJwt(header, claims, privateKey as CryptoKey)
      } catch {
        broken.add(key.jkt)
        return
      }
    },
  }
}
