// Keys that sign ID tokens as a real authorization server does.
import { createPrivateKey, generateKeyPairSync, type SignKeyObjectInput, sign } from 'node:crypto'

const base64url = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

const generate = (alg: string, modulusLength: number) => {
  if (alg.startsWith('ES')) {
    const namedCurve = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' }[alg] as string
    return generateKeyPairSync('ec', { namedCurve })
  }
  return alg.startsWith('Ed')
    ? generateKeyPairSync('ed25519')
    : generateKeyPairSync('rsa', { modulusLength })
}

/** `jwk` is what the server publishes, `sign` makes a JWT with it. */
export const createSigningKey = (
  alg: string,
  kid?: string,
  { modulusLength = 2048, publish = {} }: { modulusLength?: number; publish?: object } = {},
) => {
  const { privateKey, publicKey } = generate(alg, modulusLength)
  const input: SignKeyObjectInput = {
    key: createPrivateKey(privateKey.export({ format: 'pem', type: 'pkcs8' })),
    dsaEncoding: 'ieee-p1363',
    ...(alg.startsWith('PS') && { padding: 6, saltLength: Number(alg.slice(2)) / 8 }),
  }
  const digest = alg.startsWith('Ed') ? null : `sha${alg.slice(2)}`
  return {
    jwk: { ...publicKey.export({ format: 'jwk' }), kid, alg, use: 'sig', ...publish },
    sign: (claims: object, header: object = { alg, kid, typ: 'JWT' }): string => {
      const signed = `${base64url(header)}.${base64url(claims)}`
      return `${signed}.${sign(digest, Buffer.from(signed), input).toString('base64url')}`
    },
  }
}

export type SigningKey = ReturnType<typeof createSigningKey>
