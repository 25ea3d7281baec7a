/** Characters of an expression: far more than a person would write. */
export const expressionLengthMax = 10_000
/** Parentheses, signs and powers within each other: keeps the parser's recursion far from the end of the stack. */
export const expressionNestingMax = 200
/** Numbers that are added in one call. */
export const numbersMax = 10_000
/** Longest wait: a call that lies longer is better a timer of whoever wants it. */
export const waitMsMax = 60_000
