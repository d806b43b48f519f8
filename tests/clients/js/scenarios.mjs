export async function scenarios() {}
